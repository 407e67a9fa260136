"""Plan, apply, roll back and remove: the order of passes, and what has to hold between them."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from calm.fleet import generations, memory, report
from calm.fleet.agreed import Agreed
from calm.fleet.agreed import shown as agreement
from calm.fleet.board import Board, HostError, Pass
from calm.fleet.choice import chosen

if TYPE_CHECKING:
    from calm.fleet.runner import Progress
    from calm.fleet.targets import Target
    from calm.settings import Settings


SettingsFor = Callable[["Settings", Mapping[str, Any]], "Settings"]
"""From the inventory's settings and a host's record to the settings that a pass works with."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a command wants of its hosts. ``settings_for`` and ``desired`` serve rollback and remove.

    ``agreed`` is set where a plan file says what may change, ``nobody_asked`` where no person was shown the
    plan and asked: then a host that has moved since is planned anew, once. ``strict`` plans for no host
    while the settings of another one are wrong.
    """

    target: Target
    only: tuple[str, ...] = ()
    force: bool = False
    desired: str = "present"
    settings_for: SettingsFor | None = None
    agreed: Agreed | None = None
    nobody_asked: bool = False
    strict: bool = False

    def board(self, *, agreed: Agreed | None = None) -> Board:
        """A new board for one pass of this job; ``agreed`` in the place of the job's own."""
        return Board(
            who=who(),
            desired=self.desired,
            force=self.force,
            chosen=partial(chosen, only=self.only),
            settings_for=self.settings_for,
            agreed=agreed or self.agreed,
        )

    def check(self) -> Board:
        """A new board for the look after an apply.

        A rollback has made the settings of before those of now: to go back once more would not verify it.
        """
        board = self.board()
        board.settings_for = generations.present if self.settings_for else None
        board.agreed = None
        return board

    def on(self, names: frozenset[str]) -> Job:
        """This job on those hosts alone."""
        return replace(self, target=replace(self.target, names=names))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command came to: a document as ``--json`` prints it, and the pass that it tells of."""

    document: report.Document
    passed: Pass

    @property
    def notes(self) -> dict[str, tuple[str, ...]]:
        """What a plan says beside the changes, by host."""
        return {name: run.notes for name, run in self.passed.board.hosts.items()}

    @property
    def changes(self) -> bool:
        """Whether apply could change anything."""
        return any(
            resource["action"] != "none"
            for row in self.document["hosts"]
            if row["error"] is None
            for resource in row["resources"]
        )


def plan(job: Job, *, every: bool = False) -> Outcome:
    """What differs on each host. Nothing is written anywhere."""
    from calm.fleet import runner

    return outcome("plan", runner.look(job.target, job.board(), strict=job.strict), every=every)


def apply(job: Job, shown: Outcome, *, every: bool, progress: Progress | None, canary: int = 0) -> Outcome:
    """Change what ``shown`` named, then look again: whatever is left is a failure.

    Takes only the hosts that ``shown`` had something for, and leaves one alone on which other resources
    differ now. With ``canary`` the first so many go first, and the others only if those are well then.
    """
    pending = _pending(shown)
    memory.remember(job.target, tried=shown.passed.hosts, left=(*pending, *_troubled(shown)))
    passed, left = shown.passed, dict[str, tuple[str, ...]]()
    agreed = job.agreed or agreement(shown.document)
    for wave, rest in _waves(pending, canary):
        changed, again = _wave(job.on(frozenset(wave)), agreed, progress)
        passed, left = passed.joined(changed), left | _left(again)
        if rest and not _well(changed, again, left):
            passed = passed.joined(_held(changed, wave, rest, shown))
            break
    done = _marked(outcome("apply", passed, every=every), left)
    memory.remember(job.target, tried=shown.passed.hosts, left=_troubled(done))
    return done


def unchanged(job: Job, shown: Outcome, *, every: bool) -> Outcome:
    """What an apply comes to that has nothing to change."""
    done = outcome("apply", shown.passed, every=every)
    memory.remember(job.target, tried=shown.passed.hosts, left=_troubled(done))
    return done


def who() -> str:
    """Who runs this, as the lock on a host names it."""
    return f"{getpass.getuser()}@{socket.gethostname()} pid {os.getpid()}"


def outcome(command: str, passed: Pass, *, every: bool) -> Outcome:
    """The document of a pass, as what ``command`` came to."""
    whole = report.document(command, passed.hosts, passed.board.hosts, passed.unreachable, every=every)
    return Outcome(document=whole, passed=passed)


def _pending(shown: Outcome) -> tuple[str, ...]:
    return tuple(
        row["name"]
        for row in shown.document["hosts"]
        if row["error"] is None and row["status"] != "converged"
    )


def _troubled(done: Outcome) -> tuple[str, ...]:
    return tuple(row["name"] for row in done.document["hosts"] if row["error"] or row["status"] == "failed")


def _waves(names: tuple[str, ...], canary: int) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The hosts that go together, and those that wait for them."""
    parts = [names[:canary], names[canary:]] if canary else [names]
    parts = [part for part in parts if part]
    for number, part in enumerate(parts):
        yield part, tuple(name for later in parts[number + 1 :] for name in later)


def _wave(job: Job, agreed: Agreed, progress: Progress | None) -> tuple[Pass, Pass]:
    """Converge those hosts, and look again at those that came through."""
    from calm.fleet import runner

    changed = runner.converge(job.target, job.board(agreed=agreed), progress)
    moved = _moved(changed) if job.nobody_asked and job.agreed is None else frozenset()
    if moved:
        anew = job.on(moved)
        fresh = agreement(outcome("plan", runner.look(anew.target, anew.board()), every=False).document)
        changed = changed.joined(runner.converge(anew.target, anew.board(agreed=fresh), progress))
    through = frozenset(
        name for name, run in changed.board.hosts.items() if run.error is None and run.drift is not None
    )
    if not through:
        return changed, Pass(board=Board(), hosts=())
    return changed, runner.look(replace(job.target, names=through), job.check())


def _moved(changed: Pass) -> frozenset[str]:
    """The hosts that were left alone, since they are not as the plan saw them: one that still settles."""
    errors = {name: run.error for name, run in changed.board.hosts.items()}
    return frozenset(name for name, error in errors.items() if error is not None and error.code == "moved")


def _left(again: Pass) -> dict[str, tuple[str, ...]]:
    """What a second look still finds different, by host; nothing named where it could not look."""
    left: dict[str, tuple[str, ...]] = dict.fromkeys(again.unreachable, ())
    for name, run in again.board.hosts.items():
        if run.drift is None or run.error is not None:
            left[name] = ()
        elif run.drift.pending:
            left[name] = tuple(resource.id for resource in run.drift.pending)
    return left


def _well(changed: Pass, again: Pass, left: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether every host of a wave came out as it should be, with no service of it in trouble."""
    rows = outcome("apply", changed, every=False).document["hosts"]
    sick = any(run.sick_services for run in again.board.hosts.values())
    return not sick and not left and all(row["status"] == "converged" for row in rows)


def _held(changed: Pass, wave: tuple[str, ...], rest: tuple[str, ...], shown: Outcome) -> Pass:
    """The hosts that are not touched, since those before them did not come out well."""
    board = Board()
    for name in rest:
        run = replace(shown.passed.board.hosts[name])
        run.error = HostError(
            code="canary",
            message=f"Not changed, since {', '.join(wave)} did not come out well.",
            hint="Mend that first; then apply again.",
        )
        board.hosts[name] = run
    return Pass(board=board, hosts=changed.hosts)


def _marked(done: Outcome, left: Mapping[str, tuple[str, ...]]) -> Outcome:
    """Mark as failed what a second look still found different."""
    for row in done.document["hosts"]:
        ids = left.get(row["name"])
        if row["status"] == "converged" and ids is not None:
            row["status"] = "failed"
            row["error"] = _why_left(ids)
            done.document["summary"]["failed"] += len(ids) or 1
    return done


def _why_left(ids: tuple[str, ...]) -> dict[str, str]:
    if not ids:
        return {
            "code": "unseen",
            "message": "All was applied, but the host could not be read again to see that it holds.",
            "hint": "`calm plan` shows whether it does.",
        }
    return {
        "code": "left",
        "message": f"Still different after apply: {', '.join(ids)}.",
        "hint": "Something else on the host changes it back; `calm plan` shows the fields.",
    }
