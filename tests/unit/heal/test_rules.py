from __future__ import annotations

from dataclasses import replace

import pytest

from calm.heal import rules
from calm.heal.model import Finding
from calm.heal.view import JobRun, View
from calm.settings.healing import RULES
from tests.unit.heal.made import NOW, instance, settings, snapshot, view


def _found(seen: View, only: str | None = None) -> list[tuple[str, str]]:
    return [(finding.rule, finding.target) for finding in rules.look(seen, only)]


def _runaway(*busy_cpu: float) -> View:
    return view(*(snapshot(instance(cpu_percent=cpu)) for cpu in busy_cpu))


def test_every_rule_of_the_settings_is_there_and_no_other() -> None:
    assert {rule.name for rule in rules.RULES} == set(RULES)


def test_a_host_that_is_well_has_no_findings() -> None:
    assert rules.look(view(snapshot(instance()))) == ()


@pytest.mark.parametrize(
    ("cpu", "confirmed"),
    [
        ((90, 90, 90, 90, 90), True),
        ((1, 1, 90, 90, 90), True),
        ((90, 1, 90, 1, 90), True),
        ((1, 1, 1, 90, 90), False),
        ((90, 90, 90, 90, 1), False),
        ((90, 90), False),
    ],
    ids=["always", "the last three", "now and then", "too few", "not any more", "too young"],
)
def test_three_of_five_samples_confirm_and_the_newest_has_to_be_one(
    cpu: tuple[float, ...], confirmed: bool
) -> None:
    assert bool(_found(_runaway(*cpu))) is confirmed


def test_what_was_seen_before_the_last_act_counts_no_more() -> None:
    seen = _runaway(90, 90, 90, 90, 90)
    assert _found(replace(seen, acted={"lmstudio": NOW - 3})) == []
    assert _found(replace(seen, acted={"lmstudio": NOW - 5})) == [("lmstudio-runaway", "lmstudio:100")]
    assert _found(replace(seen, acted={"container:redis": NOW})) == [("lmstudio-runaway", "lmstudio:100")]


@pytest.mark.parametrize(("do", "acts"), [("act", True), ("report", False)])
def test_a_rule_acts_or_reports(do: str, acts: bool) -> None:
    made = settings(rules={"lmstudio-runaway": do})
    (finding,) = rules.look(replace(_runaway(90, 90, 90, 90, 90), settings=made))
    assert finding.acts is acts
    assert finding.evidence["confirmed"] == [5, 5]


def test_a_rule_that_is_off_finds_nothing() -> None:
    made = settings(rules={"lmstudio-runaway": "off"})
    assert _found(replace(_runaway(90, 90, 90, 90, 90), settings=made)) == []


def test_only_looks_at_a_scope_or_a_target() -> None:
    seen = view(snapshot(instance(cpu_percent=90), disk_percent=95))
    both = [("lmstudio-runaway", "lmstudio:100"), ("disk-low", "disk")]
    assert _found(seen) == both
    assert _found(seen, "lmstudio") == both[:1]
    assert _found(seen, "docker") == []
    assert _found(seen, "lmstudio:100") == both[:1]
    assert _found(seen, "disk") == both[1:]
    assert "lmstudio-runaway" in rules.looked_at("lmstudio")
    assert "disk-low" not in rules.looked_at("lmstudio")
    assert rules.looked_at("disk") == ()


def test_a_full_disk_is_told_with_what_is_left() -> None:
    (finding,) = rules.look(view(snapshot(disk_percent=95)))
    assert (finding.rule, finding.mode, finding.evidence["says"]) == (
        "disk-low",
        "report",
        "the disk has 5 % left",
    )


HOURLY = "heal --only docker"


def _schedules(**changes: object) -> list[Finding]:
    seen = replace(view(snapshot()), **changes)  # type: ignore[arg-type]
    return [finding for finding in rules.look(seen) if finding.rule == "schedule-late"]


def test_a_schedule_that_did_not_run_is_late() -> None:
    runs = {HOURLY: JobRun(at=NOW - 4 * 3600, code=0)}
    (finding,) = _schedules(runs=runs)
    assert finding.target == "schedule:docker-health"
    assert "4 h ago" in finding.evidence["says"]


def test_a_schedule_that_ran_in_time_is_not() -> None:
    assert _schedules(runs={HOURLY: JobRun(at=NOW - 2 * 3600, code=7)}) == []


def test_a_schedule_that_was_never_due_is_not_late() -> None:
    assert _schedules() == []
    assert _schedules(applied_at=NOW - 3600) == []
    assert {each.target for each in _schedules(applied_at=NOW - 9 * 86_400)} == {
        "schedule:docker-health",
        "schedule:lmstudio-monitor",
        "schedule:prune",
    }


def test_a_schedule_that_failed_is_told() -> None:
    (finding,) = _schedules(runs={HOURLY: JobRun(at=NOW - 60, code=1)})
    assert "exit code 1" in finding.evidence["says"]


def test_quiet_and_suspected_see_what_is_not_confirmed_yet() -> None:
    seen = _runaway(1, 1, 90)
    assert rules.look(seen) == ()
    assert not rules.quiet(seen)
    assert rules.suspected(seen) == {"lmstudio"}
    assert rules.quiet(_runaway(1, 1, 1))
    assert rules.suspected(_runaway(1, 1, 1)) == frozenset()
