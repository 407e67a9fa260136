"""Runs steps by what they need of each other: what can go together does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from calm.startup.model import Deadline, Outcome, Status, Step, StepError

Report = Callable[[Outcome], None]


def run(steps: Sequence[Step], deadline: Deadline, report: Report) -> tuple[Outcome, ...]:
    """All outcomes, in the order of ``steps``; each is reported as it is known.

    What needs a failed step is skipped. At the end every step is asked once more whether it holds; if one
    does not, it failed after all, and what this run started on top of it is undone. Raises ValueError for
    needs that are not there or go in a circle.
    """
    _check(steps)
    done = _run(steps, deadline, report)
    for late in _fallen(steps, done):
        done[late.name] = late
        report(late)
    for undone in _undone(steps, done):
        done[undone.name] = undone
        report(undone)
    return tuple(done[step.name] for step in steps)


def _run(steps: Sequence[Step], deadline: Deadline, report: Report) -> dict[str, Outcome]:
    done: dict[str, Outcome] = {}
    waiting = list(steps)
    running: dict[Future[Outcome], Step] = {}
    with ThreadPoolExecutor(max_workers=max(1, len(steps))) as pool:
        while waiting or running:
            for step in [each for each in waiting if all(need in done for need in each.needs)]:
                waiting.remove(step)
                needed = [each for each in steps if each.name in step.needs]
                running[pool.submit(_one, step, needed, done, deadline)] = step
            for future in _finished(running, deadline):
                step = running.pop(future)
                done[step.name] = future.result()
                report(done[step.name])
    return done


def _finished(running: Iterable[Future[Outcome]], deadline: Deadline) -> set[Future[Outcome]]:
    try:
        return wait(running, return_when=FIRST_COMPLETED).done
    except BaseException:
        deadline.cut()  # else leaving the pool waits for every gate
        raise


def _one(step: Step, needed: Sequence[Step], done: Mapping[str, Outcome], deadline: Deadline) -> Outcome:
    bad = next((done[need] for need in step.needs if not done[need].good), None)
    if bad is not None:
        return Outcome(
            name=step.name, status=Status.SKIPPED, reason=f"it needs {bad.name}, which {_ended(bad)}"
        )
    started = time.monotonic()
    try:
        status = step.act(deadline)
    except StepError as error:
        return _failed(step, _root_cause(needed) or error, started)
    return Outcome(name=step.name, status=status, took_ms=1000 * (time.monotonic() - started))


def _ended(bad: Outcome) -> str:
    return "failed" if bad.status is Status.FAILED else "was not started"


def _failed(step: Step, error: StepError, started: float) -> Outcome:
    took = 1000 * (time.monotonic() - started)
    return Outcome(name=step.name, status=Status.FAILED, took_ms=took, reason=error.reason, log=error.log)


def _root_cause(needed: Iterable[Step]) -> StepError | None:
    """A step often fails because one below it has died; then that is what a person has to know."""
    for step in needed:
        try:
            step.holds()
        except StepError as error:
            return StepError(f"{step.name}, which it needs, failed: {error.reason}", log=error.log)
    return None


def _fallen(steps: Sequence[Step], done: Mapping[str, Outcome]) -> list[Outcome]:
    """The steps that ended well and do not hold any more."""
    fallen = []
    for step in steps:
        if done[step.name].status in (Status.RUNNING, Status.STARTED):
            try:
                step.holds()
            except StepError as error:
                fallen.append(_failed(step, error, time.monotonic() - done[step.name].took_ms / 1000))
    return fallen


def _undone(steps: Sequence[Step], done: Mapping[str, Outcome]) -> list[Outcome]:
    """What this run started on top of something that failed, taken back from the top down."""
    failed = {name for name, outcome in done.items() if outcome.status is Status.FAILED}
    undone: list[Outcome] = []
    tainted = _above(steps, failed)
    for step in reversed(order(steps)):
        if step.name in tainted and done[step.name].status is Status.STARTED:
            step.undo()
            reason = "stopped again, since what it needs failed"
            undone.append(Outcome(name=step.name, status=Status.SKIPPED, reason=reason))
    return undone


def _above(steps: Sequence[Step], names: set[str]) -> set[str]:
    above: set[str] = set()
    for step in order(steps):
        if (names | above).intersection(step.needs):
            above.add(step.name)
    return above


def order(steps: Sequence[Step]) -> list[Step]:
    """The steps so that each comes after what it needs."""
    placed: dict[str, Step] = {}
    rest = list(steps)
    while rest:
        ready = [step for step in rest if all(need in placed for need in step.needs)]
        if not ready:
            raise ValueError(
                f"these steps need each other or one that is missing: {', '.join(s.name for s in rest)}"
            )
        placed |= {step.name: step for step in ready}
        rest = [step for step in rest if step.name not in placed]
    return list(placed.values())


def _check(steps: Sequence[Step]) -> None:
    order(steps)
