from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from calm.heal import switches
from calm.onhost import lock
from calm.onhost.files import Root


def test_a_pause_holds_until_its_end_or_until_resume(tmp_path: Path) -> None:
    assert switches.paused(tmp_path, 100.0) is None
    switches.pause(tmp_path, until=700.0)
    hold = switches.paused(tmp_path, 100.0)
    assert hold is not None
    assert (hold.reason, hold.until) == ("paused for another 10 min", 700.0)
    assert switches.paused(tmp_path, 700.0) is None
    switches.pause(tmp_path, until=None)
    assert switches.paused(tmp_path, 1e12) is not None
    assert switches.resume(tmp_path)
    assert not switches.resume(tmp_path)
    assert switches.paused(tmp_path, 100.0) is None


def test_a_damaged_pause_holds(tmp_path: Path) -> None:
    (tmp_path / switches.PAUSE).write_text("{")
    hold = switches.paused(tmp_path, 100.0)
    assert hold is not None
    assert "cannot be read" in hold.reason


def test_what_down_has_stopped_stays_wanted_stopped_until_up(tmp_path: Path) -> None:
    assert switches.wanted_stopped(tmp_path) == frozenset()
    switches.want_stopped(tmp_path, ("docker",))
    assert switches.wanted_stopped(tmp_path) == {"docker"}
    (tmp_path / switches.DOWN).write_text("nonsense")
    assert switches.wanted_stopped(tmp_path) == {"docker", "lmstudio"}
    switches.want_running(tmp_path)
    assert switches.wanted_stopped(tmp_path) == frozenset()


def test_the_lock_of_an_apply_holds_all_but_its_own_heal(tmp_path: Path) -> None:
    assert switches.applying(tmp_path) is None
    lease = {"who": "ann@desk pid 7", "run": "r1", "created": 0, "lease": 120, "expires": time.time() + 60}
    (tmp_path / ".lock.json").write_text(json.dumps(lease))
    hold = switches.applying(tmp_path)
    assert hold is not None
    assert hold.reason == "an apply by ann@desk pid 7 is running"
    assert switches.applying(tmp_path, run="r1") is None
    (tmp_path / ".lock.json").write_text(json.dumps(lease | {"expires": time.time() - 1}))
    assert switches.applying(tmp_path) is None


def test_an_apply_whose_step_outlasts_its_lease_still_holds(tmp_path: Path) -> None:
    lease = {"who": "ann@desk pid 7", "run": "r1", "created": 0, "lease": 120, "expires": time.time() - 1}
    (tmp_path / ".lock.json").write_text(json.dumps(lease))
    with lock.working(Root(str(tmp_path))):
        hold = switches.applying(tmp_path)
        assert hold is not None
        assert hold.reason == "an apply by ann@desk pid 7 is running"
        assert switches.applying(tmp_path, run="r1") is None
    assert switches.applying(tmp_path) is None


def test_one_turn_at_a_time_and_a_killed_owner_frees_it(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\nfrom calm.heal import switches\n"
        f"with switches.turn(pathlib.Path({str(tmp_path)!r})) as ours:\n"
        "    print(ours, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with switches.turn(tmp_path) as ours:
            assert not ours
        other.kill()
        other.wait()
    with switches.turn(tmp_path) as ours:
        assert ours
