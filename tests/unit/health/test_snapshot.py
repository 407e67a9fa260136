"""A whole snapshot of this machine, with an LM Studio home and a stack that are not there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calm.health.model import Snapshot
from calm.health.snapshot import take
from calm.settings import Settings


def settings(tmp_path: Path, **sections: object) -> Settings:
    """Settings whose LM Studio and stack are nobody else's."""
    (tmp_path / "home" / ".internal").mkdir(parents=True, exist_ok=True)
    lmstudio = {"home": str(tmp_path / "home"), "enabled": False} | dict(sections.pop("lmstudio", {}))  # type: ignore[call-overload]
    return Settings.model_validate(
        {"root": str(tmp_path), "lmstudio": lmstudio, "docker": {"enabled": False}, **sections}
    )


def test_it_measures_this_machine_over_its_window(tmp_path: Path) -> None:
    began = time.monotonic()
    snapshot = take(settings(tmp_path), window=0.2)

    assert time.monotonic() - began >= 0.2
    assert snapshot.problems == ()
    assert snapshot.machine is not None
    assert snapshot.machine.cpu_percent is not None
    assert snapshot.machine.processes is not None
    assert snapshot.lmstudio.instances == ()
    assert (snapshot.docker.reachable, snapshot.containers) == (None, None)
    assert snapshot.cost_ms is not None


def test_with_the_one_before_it_does_not_wait(tmp_path: Path) -> None:
    first = take(settings(tmp_path), window=0.1)
    time.sleep(0.1)  # the kernel counts CPU in hundredths of a second
    began = time.monotonic()
    second = take(settings(tmp_path), window=60, previous=first)

    assert time.monotonic() - began < 10
    assert second.machine is not None
    assert second.machine.cpu_percent is not None
    assert second.window is not None
    assert 0 < second.window < 10


def test_one_read_from_json_has_no_counters_so_it_waits(tmp_path: Path) -> None:
    first = Snapshot.from_json(json.loads(json.dumps(take(settings(tmp_path), window=0.1).to_json())))
    second = take(settings(tmp_path), window=0.1, previous=first)

    assert second.machine is not None
    assert second.machine.cpu_percent is not None


def test_a_watched_process_is_found_by_its_exact_name(tmp_path: Path) -> None:
    program = tmp_path / "LM_Support"
    program.symlink_to("/bin/sleep") if sys.platform == "win32" else os.link("/bin/sleep", program)
    other = tmp_path / "LM_Support2"
    os.link("/bin/sleep", other)
    with subprocess.Popen([program, "30"]) as watched, subprocess.Popen([other, "30"]) as like:
        try:
            snapshot = take(settings(tmp_path), window=0.1)
        finally:
            watched.kill()
            like.kill()

    assert snapshot.watched is not None
    mine = [each for each in snapshot.watched if each.executable and Path(each.executable).parent == tmp_path]
    assert [each.pid for each in mine] == [watched.pid]
    assert mine[0].executable == str(program)
    assert "ASUS" in (mine[0].known_as or "")
    assert mine[0].uss_bytes is not None


def test_a_dead_end_point_costs_no_more_than_its_own_time_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, socket.create_server(("127.0.0.1", 0)) as mute:
        stack = {
            "postgres": {"port": deaf.getsockname()[1]},
            "redis": {"port": mute.getsockname()[1]},
            "agent_api": {"enabled": False},
        }
        began = time.monotonic()
        snapshot = take(settings(tmp_path, docker=stack), window=0.1)
        took = time.monotonic() - began

    assert [each.error for each in snapshot.endpoints] == ["no answer within 2 s"] * 2
    assert snapshot.machine is not None
    assert took < 4


WITHOUT_POSIX = """
import sys
import psutil  # its Linux part needs them; its Windows part does not
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules[name] = None
import signal
for name in ("SIGKILL", "SIGHUP", "SIGUSR1"):
    delattr(signal, name)
import calm.health.containers, calm.health.snapshot
from calm.settings import Settings
taken = calm.health.snapshot.take(
    Settings.model_validate({"root": sys.argv[1], "docker": {"enabled": False}}), window=0.1
)
heavy = [name for name in ("pyinfra", "jinja2", "docker") if name in sys.modules]
print(taken.problems, taken.machine.cpu_percent, heavy)
"""


def test_it_needs_nothing_of_posix_and_none_of_the_controllers_libraries(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    problems, percent, heavy = done.stdout.strip().split(" ", 2)
    assert (problems, heavy) == ("()", "[]")
    assert float(percent) >= 0


@pytest.mark.parametrize(("enabled", "home"), [(False, "home"), ("auto", "none")])
def test_no_end_point_is_asked_where_there_is_nothing_to_ask(
    tmp_path: Path, enabled: object, home: str
) -> None:
    lmstudio = {"enabled": enabled, "home": str(tmp_path / home)}
    snapshot = take(settings(tmp_path, lmstudio=lmstudio), window=0.1)

    assert snapshot.endpoints == ()
    assert snapshot.lmstudio.api.reachable is None
