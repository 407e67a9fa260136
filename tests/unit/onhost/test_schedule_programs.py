"""launchd and Task Scheduler through stand-ins for their programs, which note how they were called."""

from __future__ import annotations

import json
import plistlib
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calm.onhost.schedule_effects import ScheduleError, launchd, task
from calm.schedules import launchd as plists
from calm.schedules import taskscheduler as tasks
from calm.schedules.place import Place
from tests.unit.schedules.declarations import TABLE

STAND_IN = """#!{python}
import json, pathlib, shutil, sys
calls = pathlib.Path({calls!r})
with calls.open("a") as file:
    file.write(json.dumps(sys.argv) + "\\n")
if "/XML" in sys.argv:
    shutil.copy(sys.argv[sys.argv.index("/XML") + 1], {kept!r})
if {fails!r} in sys.argv[1:]:
    print("access is denied")
    sys.exit(5)
"""

Program = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a program of that name first on the PATH; it fails for one argument."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    def put(name: str, fails: str = "") -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        values = {"python": sys.executable, "calls": str(tmp_path / "calls"), "kept": str(tmp_path / "kept")}
        path.write_text(STAND_IN.format(**values, fails=fails))
        path.chmod(0o755)
        return path

    return put


def _calls(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line)[1:] for line in (tmp_path / "calls").read_text().splitlines()]


def test_an_agent_of_launchd_is_written_and_loaded(tmp_path: Path, program: Program) -> None:
    program("launchctl")
    text = plists.render(TABLE["daily"], Place(root="/Users/ann/calm", home="/Users/ann"))
    effect = {"label": "calm-lmstudio-monitor", "folder": str(tmp_path / "agents"), "content": text}
    assert launchd(effect, None) is None
    path = tmp_path / "agents" / "calm-lmstudio-monitor.plist"
    assert plistlib.loads(path.read_bytes())["Label"] == "calm-lmstudio-monitor"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [call[0] for call in _calls(tmp_path)] == ["bootout", "enable", "bootstrap", "print"]


def test_an_agent_that_launchd_refuses_is_a_failure_with_its_words(tmp_path: Path, program: Program) -> None:
    program("launchctl", fails="bootstrap")
    effect = {"label": "calm-x", "folder": str(tmp_path), "content": "<plist/>"}
    with pytest.raises(ScheduleError, match="access is denied"):
        launchd(effect, None)


def test_an_agent_is_unloaded_before_its_file_goes(tmp_path: Path, program: Program) -> None:
    program("launchctl")
    (tmp_path / "calm-x.plist").write_text("<plist/>")
    launchd({"label": "calm-x", "folder": str(tmp_path), "content": None}, None)
    assert not (tmp_path / "calm-x.plist").exists()
    assert [call[0] for call in _calls(tmp_path)] == ["bootout"]


def _task(program: Program, **more: Any) -> dict[str, Any]:
    text = tasks.render(TABLE["watch"], Place(root="C:\\calm", home="C:\\", user="D\\ann"))
    name = tasks.FOLDER + "watch"
    programs = {"program": [str(program("schtasks.exe"))], "translate": ["echo"]}
    return {"name": name, "content": text, **programs, **more}


def test_a_task_is_registered_in_the_encoding_that_windows_takes_and_started(
    tmp_path: Path, program: Program
) -> None:
    effect = _task(program, start=True)
    assert task(effect, None) is None
    create, run = _calls(tmp_path)
    assert create[:3] == ["/Create", "/TN", "\\calm\\watch"]
    assert run == ["/Run", "/TN", "\\calm\\watch"]
    assert (tmp_path / "kept").read_bytes() == tasks.encoded(effect["content"])


def test_a_task_is_deleted_without_a_question(tmp_path: Path, program: Program) -> None:
    task(_task(program, content=None), None)
    assert _calls(tmp_path) == [["/Delete", "/TN", "\\calm\\watch", "/F"]]


def test_a_path_that_cannot_be_translated_is_said(program: Program) -> None:
    with pytest.raises(ScheduleError, match="could not translate"):
        task(_task(program, translate=["false"]), None)
