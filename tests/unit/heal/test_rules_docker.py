from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from calm.heal import rules
from calm.heal.model import Finding
from calm.heal.view import Junk, Trace, View
from tests.unit.heal.made import MIB, NOW, container, settings, snapshot, view

REDIS = "container:agent-system-redis"


def _found(seen: View) -> list[Finding]:
    return list(rules.look(seen, "docker"))


def _one(**changes: Any) -> list[tuple[str, str | None, str]]:
    seen = view(snapshot(containers=[container(**changes)]))
    return [(finding.rule, finding.action, finding.mode) for finding in _found(seen)]


def test_what_is_well_is_left_alone() -> None:
    assert _one() == []
    assert _one(health=None) == []
    assert _one(health="starting") == []


def test_unhealthy_is_confirmed_by_docker_itself() -> None:
    seen = view(
        snapshot(containers=[container()]),
        snapshot(containers=[container(health="unhealthy", health_since=5.0)]),
    )
    (finding,) = _found(seen)
    assert (finding.rule, finding.target, finding.action) == (
        "container-unhealthy",
        REDIS,
        "restart-container",
    )
    assert finding.since == 5.0


@pytest.mark.parametrize("changes", [{"owned": False}, {"project": "another"}], ids=["no label", "project"])
def test_others_containers_are_only_reported(changes: dict[str, Any]) -> None:
    assert _one(health="unhealthy", **changes) == [("container-unhealthy", None, "report")]
    assert _one(state="exited", health=None, **changes) == []


def test_stopped_though_wanted() -> None:
    assert _one(state="exited", exit_code=137) == [("container-stopped", "start-container", "act")]
    assert _one(state="paused") == []
    assert _one(state="exited", exit_code=0, restart_policy="no") == []
    assert _one(state="exited", exit_code=0, restart_policy="unless-stopped") != []
    assert _one(name="agent-system-nginx", state="exited", exit_code=0) == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (137, "redis should run and has stopped with exit code 137"),
        (None, "redis should run and has stopped"),
    ],
)
def test_an_exit_code_that_is_not_known_is_not_told(code: int | None, says: str) -> None:
    (finding,) = _found(view(snapshot(containers=[container(state="exited", exit_code=code)])))
    assert finding.evidence["says"] == f"agent-system-{says}"


def test_one_that_is_gone_is_made_anew() -> None:
    wanted = {"redis": "agent-system-redis", "nginx": "agent-system-nginx"}
    seen = view(snapshot(containers=[]), wanted=wanted)
    (finding,) = _found(seen)
    assert (finding.target, finding.action, finding.evidence["service"]) == (REDIS, "recreate", "redis")


def test_an_engine_that_could_not_be_asked_says_nothing_of_its_containers() -> None:
    assert _found(view(snapshot(containers=None), wanted={"redis": "agent-system-redis"})) == []


def _trail(counts: dict[float, int]) -> list[Trace]:
    id_ = container().id
    return [
        Trace(at=NOW - age, memory={}, models=(), restarts={id_: count})
        for age, count in sorted(counts.items(), reverse=True)
    ]


def _loops(now: int, counts: dict[float, int], state: str = "running", **changes: Any) -> bool:
    seen = view(snapshot(containers=[container(restarts=now, state=state)]), trail=_trail(counts), **changes)
    return any(finding.rule == "container-crash-looping" for finding in _found(seen))


def test_a_crash_loop_is_three_restarts_within_the_window() -> None:
    assert _loops(8, {590: 5, 300: 6, 0: 8})
    assert not _loops(7, {590: 5, 300: 6, 0: 7})
    assert not _loops(8, {3000: 2, 590: 8, 0: 8})


def test_a_short_trail_needs_one_that_is_restarting_right_now() -> None:
    assert _loops(8, {10: 7, 0: 8}, state="restarting")
    assert not _loops(8, {10: 8, 0: 8})
    assert not _loops(2, {}, state="restarting")


def test_after_an_act_all_counts_are_new_since_docker_begins_at_zero() -> None:
    acted = {REDIS: NOW - 60}
    assert _loops(3, {590: 9, 0: 3}, acted=acted)
    assert not _loops(2, {590: 9, 0: 2}, acted=acted)


def test_an_oom_kill_is_reported_with_the_limit_and_a_figure() -> None:
    (finding,) = _found(view(snapshot(containers=[container(oom_killed=True)])))
    assert (finding.rule, finding.mode, finding.action) == ("container-oom-killed", "report", None)
    assert "limit of 512 MB; set docker.redis.memory to 768M" in finding.evidence["says"]


def test_an_oom_kill_that_only_an_event_has_told() -> None:
    seen = view(snapshot(containers=[container()]), ooms={"agent-system-redis": NOW - 5})
    (finding,) = _found(seen)
    assert (finding.rule, finding.since) == ("container-oom-killed", NOW - 5)


def test_no_limit_means_that_the_host_ran_out() -> None:
    seen = view(snapshot(containers=[container(oom_killed=True, memory_limit_bytes=None)]))
    assert "the host itself" in _found(seen)[0].evidence["says"]


@pytest.mark.parametrize(("percent", "found"), [(49.0, False), (50.0, True), (None, False)])
def test_throttled(percent: float | None, found: bool) -> None:
    assert bool(_one(throttled_percent=percent)) is found


@pytest.mark.parametrize(("used", "found"), [(400, False), (461, True), (None, False)])
def test_near_its_limit(used: int | None, found: bool) -> None:
    size = None if used is None else used * MIB
    assert bool(_one(memory_bytes=size)) is found


def test_junk_over_a_size() -> None:
    gib = 2**30
    seen = view(snapshot(), junk=Junk(ours=gib, others=5 * gib))
    (finding,) = _found(seen)
    assert (finding.rule, finding.target, finding.mode, finding.action) == (
        "junk",
        "docker:junk",
        "report",
        "prune",
    )
    assert _found(replace(seen, junk=Junk(ours=gib, others=gib))) == []
    made = settings(rules={"junk": "act"})
    others = view(snapshot(), junk=Junk(ours=0, others=6 * gib), made=made)
    assert not _found(others)[0].acts
