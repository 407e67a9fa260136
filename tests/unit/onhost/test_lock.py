"""One run at a time: who may change a host, and when a lock is over."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from calm.onhost import lock, parse, script
from tests.unit.onhost.pushed import effect, probe, python, statuses

OTHER = {"id": "r2", "who": "sam@desk pid 12"}
FOLDER = {"do": "folder", "path": "docker"}
OWNER = """
import subprocess, sys, time
subprocess.run([sys.argv[1], "-I", "-"], input=sys.stdin.read(), text=True, check=True)
sys.stdout.close()
time.sleep(60)
"""


def stored(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / lock.NAME).read_text())
    return found


def test_a_lock_keeps_others_out_by_name_and_lets_its_own_run_in(tmp_path: Path) -> None:
    root = tmp_path / "calm"
    assert statuses(effect(root, {"do": "lock", "lease_s": 120}, run=OTHER)) == ["done"]
    [refused] = effect(root, FOLDER)
    assert refused["status"] == "failed"
    assert "locked by sam@desk pid 12 since 0 s" in refused["message"]
    assert "`calm unlock`" in refused["message"]
    assert not (root / "docker").exists()
    assert statuses(effect(root, {"do": "lock"})) == ["failed"]
    assert statuses(effect(root, FOLDER, run=OTHER)) == ["done"]


def test_each_effect_renews_the_lease(tmp_path: Path) -> None:
    effect(tmp_path, {"do": "lock", "lease_s": 50}, run=OTHER)
    first = stored(tmp_path)
    effect(tmp_path, FOLDER, run=OTHER)
    assert stored(tmp_path)["expires"] > first["expires"]
    assert stored(tmp_path)["created"] == first["created"]
    assert 45 < stored(tmp_path)["expires"] - time.time() <= 50


def test_the_probe_tells_who_holds_it(tmp_path: Path) -> None:
    assert probe(tmp_path)["lock"] is None
    effect(tmp_path, {"do": "lock"}, run=OTHER)
    held = probe(tmp_path)["lock"]
    assert (held["who"], held["host"], held["pid"], held["run"]) == ("sam@desk pid 12", "desk", 12, "r2")
    assert held["dead"] is False


def test_an_expired_lease_is_no_lock(tmp_path: Path) -> None:
    effect(tmp_path, {"do": "lock"}, run=OTHER)
    lease = stored(tmp_path)
    (tmp_path / lock.NAME).write_text(json.dumps({**lease, "expires": time.time() - 1}))
    assert probe(tmp_path)["lock"] is None
    assert statuses(effect(tmp_path, {"do": "lock"}, FOLDER)) == ["done", "done"]
    assert stored(tmp_path)["run"] == "r1"


def test_a_dead_owner_on_this_machine_frees_it_at_once(tmp_path: Path) -> None:
    """The owner starts the effect, as a run with the connector @local does, and dies with the lock."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, python()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    run = {"id": "r3", "who": f"kim@{socket.gethostname()} pid {owner.pid}"}
    try:
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.write(script("effect", {"root": str(tmp_path), "run": run, "effects": [{"do": "lock"}]}))
        owner.stdin.close()
        assert statuses(parse(owner.stdout.readline())["results"]) == ["done"]
        assert statuses(effect(tmp_path, FOLDER)) == ["failed"]
    finally:
        owner.kill()
        owner.wait(timeout=10)
    assert probe(tmp_path)["lock"]["dead"] is True
    assert statuses(effect(tmp_path, {"do": "lock"}, FOLDER)) == ["done", "done"]


def test_a_process_of_another_machine_with_our_name_is_not_taken_for_dead(tmp_path: Path) -> None:
    """Only an ancestor of the effect is known to be on this machine."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    run = {"id": "r3", "who": f"kim@{socket.gethostname()} pid {gone.pid}"}
    effect(tmp_path, {"do": "lock"}, run=run)
    assert statuses(effect(tmp_path, FOLDER)) == ["failed"]


def test_force_takes_it_and_unlock_frees_only_ones_own(tmp_path: Path) -> None:
    effect(tmp_path, {"do": "lock"}, run=OTHER)
    assert statuses(effect(tmp_path, {"do": "unlock"})) == ["unchanged"]
    assert stored(tmp_path)["run"] == "r2"
    assert statuses(effect(tmp_path, {"do": "lock", "force": True}, FOLDER)) == ["done", "done"]
    assert statuses(effect(tmp_path, FOLDER, run=OTHER)) == ["failed"]
    assert statuses(effect(tmp_path, {"do": "unlock", "force": True}, run=OTHER)) == ["done"]
    assert probe(tmp_path)["lock"] is None


def test_unlock_where_there_is_no_root_makes_none(tmp_path: Path) -> None:
    assert statuses(effect(tmp_path / "calm", {"do": "unlock", "force": True})) == ["unchanged"]
    assert not (tmp_path / "calm").exists()


def begun(root: Path, shell: str, *before: dict[str, Any], run: dict[str, Any]) -> subprocess.Popen[str]:
    """Effects of a run that has begun with ``shell``, which goes on."""
    slow = {"do": "run", "argv": ["sh", "-c", f"touch {root}/begun; {shell}"]}
    text = script("effect", {"root": str(root), "run": run, "effects": [*before, slow]})
    first = subprocess.Popen(
        [python(), "-I", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert first.stdin is not None
    first.stdin.write(text)
    first.stdin.close()
    deadline = time.monotonic() + 10
    while not (root / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return first


UNTIL_FREED = "while [ ! -e {root}/free ]; do sleep 0.02; done"


def test_whoever_is_at_work_is_seen_though_the_lease_is_over(tmp_path: Path) -> None:
    """A step may take longer than its lease, an image that is built for one."""
    slow = begun(tmp_path, UNTIL_FREED.format(root=tmp_path), {"do": "lock", "lease_s": 120}, run=OTHER)
    try:
        held = probe(tmp_path)["lock"]
        assert (held["who"], held["working"]) == ("sam@desk pid 12", True)
        (tmp_path / lock.NAME).write_text(json.dumps({**stored(tmp_path), "expires": time.time() - 1}))
        held = probe(tmp_path)["lock"]
        assert (held["who"], held["run"], held["working"]) == ("sam@desk pid 12", "r2", True)
        [refused] = effect(tmp_path, {"do": "unlock", "force": True})
        assert refused["status"] == "failed"
        assert "sam@desk pid 12 is at work on this host right now" in refused["message"]
    finally:
        (tmp_path / "free").touch()
        assert slow.wait(timeout=10) == 0
    held = probe(tmp_path)["lock"]
    assert (held["who"], held["working"]) == ("sam@desk pid 12", False), "the step has renewed its lease"
    assert statuses(effect(tmp_path, {"do": "unlock", "force": True})) == ["done"]


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_whoever_is_at_work_without_a_lease_is_named_as_a_process(tmp_path: Path) -> None:
    slow = begun(tmp_path, UNTIL_FREED.format(root=tmp_path), run=OTHER)
    try:
        held = probe(tmp_path)["lock"]
        assert (held["who"], held["created"], held["working"]) == (f"process {slow.pid}", None, True)
    finally:
        (tmp_path / "free").touch()
        slow.wait(timeout=10)
    assert probe(tmp_path)["lock"] is None


def test_two_effects_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """The second finds the first at work although nobody holds a lease."""
    first = begun(tmp_path, f"sleep 0.7; touch {tmp_path}/ended", run=OTHER)
    assert statuses(effect(tmp_path, FOLDER)) == ["done"]
    assert (tmp_path / "ended").exists()
    assert first.wait(timeout=10) == 0


def test_a_broken_lock_file_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / lock.NAME).write_text("{half")
    assert probe(tmp_path)["lock"] is None
    assert statuses(effect(tmp_path, {"do": "lock"})) == ["done"]


def test_a_process_is_known_by_its_start_too() -> None:
    assert lock.started(os.getpid()) == lock.started(os.getpid()) is not None
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert lock.started(gone.pid) is None
    assert os.getppid() in lock.ancestors()
