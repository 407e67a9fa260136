"""What the doctor makes of what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calm.settings import Settings
from calm.startup import doctor

FULL = {"MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True, "SwapLimit": True, "CgroupVersion": "2"}


@pytest.mark.parametrize(
    ("known", "level", "says"),
    [
        ({"Version": "26.1.5+dfsg1", "ApiVersion": "1.45"}, "ok", "26.1.5"),
        ({"Version": "24.0.2", "ApiVersion": "1.43"}, "warning", "start intervals"),
        ({"Version": "19.3.1", "ApiVersion": "1.40"}, "failure", "20.10 or newer"),
    ],
)
def test_the_engines_version(known: dict[str, Any], level: str, says: str) -> None:
    found = doctor._engine(known)
    assert found.level == level
    assert says in found.says
    assert (found.mend is None) == (level == "ok")


@pytest.mark.parametrize(
    ("lacks", "level", "says"),
    [("", "ok", "hold"), ("MemoryLimit", "failure", "memory"), ("SwapLimit", "warning", "swap")],
)
def test_whether_limits_hold(lacks: str, level: str, says: str) -> None:
    (found,) = doctor._limits({**FULL, **({lacks: False} if lacks else {})})
    assert found.level == level
    assert says in found.says


def test_less_memory_than_the_services_may_use_is_a_warning() -> None:
    assert doctor._enough_memory(Settings(), {"MemTotal": 2 * 2**30}).level == "warning"
    assert doctor._enough_memory(Settings(), {"MemTotal": 8 * 2**30}).level == "ok"


def test_without_docker_it_depends_on_what_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    (found,) = doctor._docker(Settings(), tmp_path)
    assert (found.name, found.level) == ("engine", "failure")
    (unwanted,) = doctor._docker(Settings.model_validate({"docker": {"enabled": False}}), tmp_path)
    assert unwanted.level == "ok"


def test_a_root_that_is_not_there_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    found = {each.name: each for each in doctor._root(Settings(), tmp_path / "a" / "b")}
    assert "can be made" in found["root"].says
    assert found["agent"].mend == "calm apply"


def test_warnings_do_not_fail_and_failures_do() -> None:
    fine = [doctor._ok("a", "x"), doctor._warning("b", "y")]
    assert doctor.healthy(fine)
    assert not doctor.healthy([*fine, doctor._failure("c", "z")])
    assert doctor.to_json(fine)["checks"][1] == {"name": "b", "level": "warning", "says": "y", "mend": None}


def test_a_failed_schedule_is_a_warning_that_leads_to_its_log() -> None:
    run = {"last_run": 0.0, "last_result": "exit-code", "exit_status": 3, "next_run": None}
    found = doctor._run_of("prune", run)
    assert found.level == "warning"
    assert "calm-prune.service" in (found.mend or "")
