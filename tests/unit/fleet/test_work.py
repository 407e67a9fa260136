"""What apply says once it has looked again: only what a second look confirms is a success."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from calm import fleet
from calm.drift.model import Action, HostDrift, Refusal, Resource
from calm.fleet import work
from calm.fleet.board import Board, HostError, HostRun, Pass
from calm.fleet.targets import Target
from calm.settings import Settings

HOST = "db-1"
PENDING = Resource(id="service:redis", kind="service", action=Action.UPDATE)
REFUSED = Resource(
    id="docker", kind="service", refused=Refusal(message="The engine is down.", hint="Start it.")
)
DOWN = HostError(code="unreachable", message="No route.", hint="Is it up?")


def drift(*resources: Resource) -> HostDrift:
    return HostDrift(resources=resources, left_out=(), notes=(), record={})


def passed(*resources: Resource, error: HostError | None = None) -> Pass:
    run = HostRun(
        name=HOST, digest_key="", settings=Settings(), state={"root": {"path": "/calm"}}, error=error
    )
    run.drift = drift(*resources)
    return Pass(board=Board(hosts={HOST: run}), hosts=(HOST,))


@pytest.mark.parametrize(
    ("again", "code", "says"),
    [
        (passed(), None, ""),
        (passed(PENDING), "left", "service:redis"),
        (passed(REFUSED), "left", "docker"),
        (passed(error=DOWN), "unseen", "could not be read again"),
        (Pass(board=Board(), hosts=(HOST,), unreachable={HOST: DOWN}), "unseen", "could not be read again"),
    ],
)
def test_success_is_what_a_second_look_confirms(
    again: Pass, code: str | None, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    # In the place of the runner, whose import patches the standard library of this process.
    passes = SimpleNamespace(converge=lambda *_: passed(), look=lambda *_: again)
    monkeypatch.setattr(fleet, "runner", passes, raising=False)
    job = work.Job(target=Target(inventory=tmp_path / "i.py", checkout=tmp_path))
    shown = work.outcome("plan", passed(PENDING), every=False)
    [row] = work.apply(job, shown, every=False, progress=None).document["hosts"]
    assert row["status"] == ("converged" if code is None else "failed")
    assert (row["error"] or {}).get("code") == code
    assert says in (row["error"] or {}).get("message", "")


MOVED = HostError(code="moved", message="The host has changed since the plan.", hint="Look at a new plan.")


@pytest.mark.parametrize(("nobody_asked", "converged"), [(True, 2), (False, 1)])
def test_a_host_that_has_moved_is_planned_anew_where_nobody_was_asked(
    nobody_asked: bool, converged: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    results, seen = [passed(PENDING, error=MOVED), passed()], [passed(PENDING), passed()]
    boards: list[Board] = []

    def converge(_: Target, board: Board, __: object) -> Pass:
        boards.append(board)
        return results[len(boards) - 1]

    passes = SimpleNamespace(converge=converge, look=lambda *_: seen.pop(0))
    monkeypatch.setattr(fleet, "runner", passes, raising=False)
    target = Target(inventory=tmp_path / "i.py", checkout=tmp_path)
    job = work.Job(target=target, nobody_asked=nobody_asked)
    shown = work.outcome("plan", passed(PENDING), every=False)
    [row] = work.apply(job, shown, every=False, progress=None).document["hosts"]
    assert len(boards) == converged
    assert (row["error"] or {}).get("code") == (None if nobody_asked else "moved")
