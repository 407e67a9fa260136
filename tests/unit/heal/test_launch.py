from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil

from calm.heal import launch
from tests.integration.heal_lab import wait_for

WRITES = "import os, sys; open(sys.argv[1], 'w').write(os.environ['MARK'] + ' ' + os.getcwd())"


def test_a_process_is_started_again_as_it_was(tmp_path: Path) -> None:
    said = tmp_path / "said"
    waits = f"{WRITES}\nimport time; time.sleep(60)"
    argv = [sys.executable, "-c", waits, str(said)]
    with subprocess.Popen(argv, cwd=tmp_path, env={"MARK": "one"}) as process:
        wait_for(said.exists, "it does not start")
        way = launch.remembered(process.pid)
        process.kill()
    said.unlink()
    pid = way.start()
    try:
        wait_for(lambda: said.exists() and said.read_text(), "it does not start again")
        assert said.read_text() == f"one {tmp_path}"
        assert psutil.Process(pid).cmdline()[1:] == argv[1:]
    finally:
        started = psutil.Process(pid)
        started.kill()
        started.wait(5)


def _note(home: Path, name: str, path: Path) -> None:
    (home / ".internal").mkdir(exist_ok=True)
    place = {"path": str(path), "argv": ["--run-as-service"], "cwd": str(path.parent)}
    (home / ".internal" / f"{name}-install-location.json").write_text(json.dumps(place))


def test_the_installed_program_is_what_the_files_say_if_it_is_there(tmp_path: Path) -> None:
    assert launch.installed(tmp_path) is None
    app, daemon = tmp_path / "lm-studio", tmp_path / "llmster"
    _note(tmp_path, "app", app)
    _note(tmp_path, "llmster", daemon)
    assert launch.installed(tmp_path) is None
    daemon.write_text("")
    way = launch.installed(tmp_path)
    assert way is not None
    assert way.argv == [str(daemon), "--run-as-service"]
    app.write_text("")
    preferred = launch.installed(tmp_path)
    assert preferred is not None
    assert preferred.argv[0] == str(app)


def test_a_file_that_makes_no_sense_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".internal").mkdir()
    (tmp_path / ".internal" / "app-install-location.json").write_text("[1]")
    assert launch.installed(tmp_path) is None
