"""Gates: what counts as well, and how it is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from calm.startup.gates import WELL, Look, healthy, passed
from calm.startup.model import Deadline, StepError

WAITING = Look(state="waiting", why="not yet")


def _then(*looks: Look) -> Callable[[], Look]:
    rest = list(looks)
    return lambda: rest.pop(0) if len(rest) > 1 else rest[0]


def _container(status: str, **state: Any) -> Mapping[str, Any]:
    restarts = state.pop("restarts", 0)
    memory = {"HostConfig": {"Memory": 512 * 2**20}}
    return {"State": {"Status": status, "ExitCode": 0, **state}, "RestartCount": restarts, **memory}


def test_what_is_well_counts_after_a_moment_and_not_much_later() -> None:
    began = time.monotonic()
    passed(_then(WAITING, WELL), Deadline.after(5), steady=0.2)
    assert 0.2 <= time.monotonic() - began < 0.6


def test_well_once_and_then_not_is_a_failure_that_says_so() -> None:
    with pytest.raises(StepError, match=r"well for 0\.\d s and then not any more: not yet"):
        passed(_then(WELL, WELL, WAITING), Deadline.after(5))


def test_a_failure_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(StepError, match="exit code 3"):
        passed(_then(WAITING, Look(state="failed", why="it ended with exit code 3")), Deadline.after(30))
    assert time.monotonic() - began < 1


def test_a_deadline_names_what_was_waited_for() -> None:
    with pytest.raises(StepError, match="the time is up: not yet"):
        passed(_then(WAITING), Deadline.after(0.15))


HEALTH = {"Log": [{"Output": "old"}, {"Output": " no\n route "}]}

CASES: list[tuple[Mapping[str, Any], bool, str, str]] = [
    (_container("running"), False, "well", ""),
    (_container("running", Health={"Status": "healthy"}), False, "well", ""),
    (_container("running", Health={"Status": "starting", **HEALTH}), False, "waiting", "no route"),
    (
        _container("running", Health={"Status": "unhealthy", **HEALTH}),
        False,
        "failed",
        "its health check fails: no route",
    ),
    (_container("created"), False, "waiting", "created"),
    (_container("exited", ExitCode=2), False, "failed", "exit code 2"),
    (_container("exited"), False, "failed", "exit code 0"),
    (_container("exited"), True, "well", ""),
    (_container("exited", ExitCode=1), True, "failed", "exit code 1"),
    (_container("running"), True, "waiting", "not finished"),
    (_container("exited", ExitCode=137, OOMKilled=True), False, "failed", "its limit is 512 MB"),
    (_container("restarting", ExitCode=1, restarts=1), False, "failed", "again and again"),
    (_container("running", ExitCode=1, restarts=2), False, "failed", "again and again"),
    (_container("running", restarts=1), False, "well", ""),
]


@pytest.mark.parametrize(("container", "once", "state", "why"), CASES)
def test_what_a_container_says(container: Mapping[str, Any], once: bool, state: str, why: str) -> None:
    look = healthy(container, restarts=0, once=once)
    assert look.state == state
    assert why in look.why


def test_restarts_of_former_days_do_not_count() -> None:
    assert healthy(_container("running", restarts=7), restarts=7, once=False) == WELL
