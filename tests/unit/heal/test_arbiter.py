from __future__ import annotations

from typing import Any

import pytest

from calm.heal import arbiter
from calm.heal.arbiter import Bench, judge
from calm.heal.budget import Act, Limits
from calm.heal.model import Finding
from calm.heal.switches import Hold
from tests.unit.heal.made import NOW, container, settings, snapshot


def _finding(target: str = "container:redis", rule: str = "container-unhealthy", **changes: Any) -> Finding:
    service = target.partition(":")[2]
    values: dict[str, Any] = {
        "evidence": {"says": "sick", "service": service},
        "since": NOW,
        "mode": "act",
        "action": "restart-container",
    }
    return Finding(rule=rule, target=target, **(values | changes))


def _bench(acts: dict[str, list[Act]] | None = None, **changes: Any) -> Bench:
    values: dict[str, Any] = {
        "hold": None,
        "stopped": frozenset(),
        "needs": {"agent-api": ("postgres", "redis")},
        "unready": frozenset(),
        "quarantined": frozenset(),
        "oomed": frozenset(),
        "pending": {},
        "acts": lambda key: (acts or {}).get(key, []),
        "limits": Limits(),
        "now": NOW,
    }
    return Bench(**(values | changes))


def _acts(*ages: float) -> list[Act]:
    return [Act(turn=str(age), began=NOW - age, ended=NOW - age) for age in ages]


def _rulings(findings: list[Finding], bench: Bench) -> list[tuple[str, str]]:
    return [(each.finding.target, each.ruling) for each in judge(findings, bench)]


def test_what_is_only_reported_is_not_ruled_on() -> None:
    assert judge([_finding(mode="report"), _finding(action=None)], _bench()) == ()


def test_dependencies_come_first_and_a_sick_one_holds_what_needs_it() -> None:
    findings = [_finding("container:agent-api"), _finding("container:postgres")]
    assert _rulings(findings, _bench()) == [("container:postgres", "go"), ("container:agent-api", "go")]
    bench = _bench(unready=frozenset({"postgres"}))
    assert _rulings(findings, bench) == [("container:postgres", "go"), ("container:agent-api", "deferred")]
    assert judge(findings, bench)[1].reason == "it waits for postgres, which it needs"


def test_one_rule_acts_on_a_target_and_several_instances_are_one_target() -> None:
    twice = [_finding(), _finding(rule="container-stopped", action="start-container")]
    assert [each.finding.rule for each in judge(twice, _bench())] == ["container-unhealthy"]
    extras = [_finding(f"lmstudio:{pid}", rule="lmstudio-duplicated", action="end") for pid in (2, 3)]
    other = _finding("lmstudio:1", rule="lmstudio-runaway", action="restart")
    assert _rulings([*extras, other], _bench()) == [("lmstudio:2", "go"), ("lmstudio:3", "go")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hold": Hold(reason="paused until calm resume")}, "paused until calm resume"),
        ({"stopped": frozenset({"docker"})}, "calm down stopped it; calm up starts it again"),
        ({"pending": {"container:redis": "wait for it"}}, "wait for it"),
    ],
)
def test_what_holds(changes: dict[str, Any], reason: str) -> None:
    (judged,) = judge([_finding()], _bench(**changes))
    assert (judged.ruling, judged.reason) == ("deferred", reason)


def test_down_of_one_part_holds_only_that() -> None:
    lmstudio = _finding("lmstudio:1", rule="lmstudio-runaway")
    bench = _bench(stopped=frozenset({"lmstudio"}))
    assert _rulings([_finding(), lmstudio], bench) == [("container:redis", "go"), ("lmstudio:1", "deferred")]


def test_each_act_of_a_row_is_a_rung_of_the_ladder() -> None:
    attempts = [
        judge([_finding()], _bench({"container:redis": _acts(*ages)}))[0].attempt
        for ages in ((), (60,), (120, 60), (5000,))
    ]
    assert attempts == [1, 2, 3, 1]


def test_a_spent_budget_and_a_quarantine() -> None:
    spent = _bench({"container:redis": _acts(300, 200, 100)})
    assert _rulings([_finding()], spent) == [("container:redis", "spent")]
    assert _rulings([_finding()], _bench(quarantined=frozenset({"container:redis"}))) == [
        ("container:redis", "quarantined")
    ]


@pytest.mark.parametrize("by_event", [True, False])
def test_what_was_killed_for_want_of_memory_is_tried_once(by_event: bool) -> None:
    oom = _finding(rule=arbiter.OOM, mode="report", action=None)
    findings = [_finding(rule="container-stopped")] + ([] if by_event else [oom])
    oomed = frozenset({"container:redis"}) if by_event else frozenset()
    assert _rulings(findings, _bench(oomed=oomed)) == [("container:redis", "go")]
    assert _rulings(findings, _bench({"container:redis": _acts(100)}, oomed=oomed)) == [
        ("container:redis", "spent")
    ]


def test_needs_come_from_the_settings_too() -> None:
    made = settings({"docker": {"services": {"web": {"image": "x:1", "depends_on": {"agent-api": {}}}}}})
    needs = arbiter.needs(made)
    assert needs["web"] == ("agent-api",)
    assert arbiter.in_order(["web", "agent-api", "redis"], needs) == ("redis", "agent-api", "web")


def test_a_circle_of_needs_ends() -> None:
    assert set(arbiter.in_order(["a", "b"], {"a": ("b",), "b": ("a",)})) == {"a", "b"}


def test_unready_is_what_does_not_work_yet() -> None:
    seen = snapshot(
        containers=[
            container("agent-system-redis", health="starting"),
            container("agent-system-postgres"),
            container("x-other", project="x", state="exited"),
        ]
    )
    assert arbiter.unready(seen, settings()) == {"redis"}
    assert arbiter.unready(None, settings()) == frozenset()
