"""The graph of a start: order, what goes together, and what a failure takes along."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from calm.startup.graph import order, run
from calm.startup.model import Deadline, Outcome, Status, Step, StepError


def _ends(status: Status = Status.STARTED) -> Callable[[Deadline], Status]:
    return lambda _: status


def _fails(reason: str = "it broke", log: tuple[str, ...] = ()) -> Callable[[Deadline], Status]:
    def act(_: Deadline) -> Status:
        raise StepError(reason, log=log)

    return act


def _run(*steps: Step, seconds: float = 5) -> dict[str, Outcome]:
    reported: list[Outcome] = []
    outcomes = run(steps, Deadline.after(seconds), reported.append)
    assert [outcome.name for outcome in outcomes] == [step.name for step in steps]
    assert {outcome.name for outcome in reported} == {step.name for step in steps}
    return {outcome.name: outcome for outcome in outcomes}


def test_what_can_go_together_does() -> None:
    meet = threading.Barrier(2, timeout=5)

    def act(_: Deadline) -> Status:
        meet.wait()
        return Status.STARTED

    found = _run(Step(name="postgres", act=act), Step(name="redis", act=act))
    assert all(outcome.good for outcome in found.values())


def test_a_step_comes_after_what_it_needs() -> None:
    seen: list[str] = []

    def noted(name: str) -> Callable[[Deadline], Status]:
        def act(_: Deadline) -> Status:
            seen.append(name)
            return Status.STARTED

        return act

    _run(
        Step(name="api", act=noted("api"), needs=("postgres", "redis")),
        Step(name="redis", act=noted("redis"), needs=("engine",)),
        Step(name="postgres", act=noted("postgres"), needs=("engine",)),
        Step(name="engine", act=noted("engine")),
    )
    assert seen[0] == "engine"
    assert seen[-1] == "api"


def test_what_needs_a_failed_step_is_skipped_with_the_reason_and_the_rest_goes_on() -> None:
    found = _run(
        Step(name="postgres", act=_fails("port taken", log=("line",))),
        Step(name="redis", act=_ends()),
        Step(name="api", act=_ends(), needs=("postgres", "redis")),
        Step(name="lmstudio", act=_ends(), needs=("api",)),
    )
    assert (found["postgres"].reason, found["postgres"].log) == ("port taken", ("line",))
    assert found["redis"].status is Status.STARTED
    assert found["api"].reason == "it needs postgres, which failed"
    assert found["lmstudio"].reason == "it needs api, which was not started"


def test_a_dependency_that_died_is_named_instead_of_its_victim() -> None:
    alive = True

    def dies(_: Deadline) -> Status:
        nonlocal alive
        alive = False
        raise StepError("its health check fails")

    def holds() -> None:
        if not alive:
            raise StepError("it ended with exit code 1", log=("boom",))

    found = _run(
        Step(name="postgres", act=_ends(), holds=holds),
        Step(name="api", act=dies, needs=("postgres",)),
    )
    assert found["api"].reason == "postgres, which it needs, failed: it ended with exit code 1"
    assert found["api"].log == ("boom",)
    assert found["postgres"].status is Status.FAILED


def test_what_does_not_hold_to_the_end_failed_and_what_stands_on_it_is_taken_back() -> None:
    undone: list[str] = []

    def broken() -> None:
        raise StepError("its health check fails")

    found = _run(
        Step(name="redis", act=_ends(), holds=broken, undo=lambda: undone.append("redis")),
        Step(name="api", act=_ends(), needs=("redis",), undo=lambda: undone.append("api")),
        Step(name="web", act=_ends(), needs=("api",), undo=lambda: undone.append("web")),
        Step(name="old", act=_ends(Status.RUNNING), needs=("redis",), undo=lambda: undone.append("old")),
    )
    assert found["redis"].status is Status.FAILED
    assert undone == ["web", "api"]
    assert found["api"].status is Status.SKIPPED
    assert found["old"].status is Status.RUNNING


def test_steps_in_a_circle_are_an_error() -> None:
    circle = [Step(name="a", act=_ends(), needs=("b",)), Step(name="b", act=_ends(), needs=("a",))]
    with pytest.raises(ValueError, match="a, b"):
        order(circle)


def test_an_interrupt_cuts_all_waiting_short() -> None:
    deadline = Deadline.after(60)
    deadline.cut()
    assert deadline.left == 0


def test_the_json_of_an_outcome() -> None:
    outcome = Outcome(name="redis", status=Status.FAILED, took_ms=12.345, reason="why", log=("a",))
    assert outcome.to_json() == {
        "step": "redis",
        "status": "failed",
        "took_ms": 12.3,
        "reason": "why",
        "log": ["a"],
    }
