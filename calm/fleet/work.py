"""Plan, apply, roll back and remove: the order of passes, and what has to hold between them."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from calm.fleet import generations, report
from calm.fleet.board import Board, HostRun
from calm.fleet.choice import chosen

if TYPE_CHECKING:
    from calm.fleet.runner import Pass, Progress
    from calm.fleet.targets import Target
    from calm.settings import Settings


SettingsFor = Callable[["Settings", Mapping[str, Any]], "Settings"]
"""From the inventory's settings and a host's record to the settings that a pass works with."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a command wants of its hosts. ``settings_for`` and ``desired`` serve rollback and remove."""

    target: Target
    only: tuple[str, ...] = ()
    force: bool = False
    desired: str = "present"
    settings_for: SettingsFor | None = None

    def board(self, *, settings_for: SettingsFor | None = None) -> Board:
        """A new board for one pass of this job; ``settings_for`` in the place of the job's own."""
        return Board(
            who=who(),
            desired=self.desired,
            force=self.force,
            chosen=partial(chosen, only=self.only),
            settings_for=settings_for or self.settings_for,
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A document as ``--json`` prints it, and the notes of each host."""

    document: report.Document
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        """Whether any host has something to change or to refuse."""
        return any(row["resources"] for row in self.document["hosts"])

    @property
    def changes(self) -> bool:
        """Whether apply could change anything."""
        return any(
            resource["action"] != "none" for row in self.document["hosts"] for resource in row["resources"]
        )


def plan(job: Job, *, every: bool = False) -> Outcome:
    """What differs on each host. Nothing is written anywhere."""
    from calm.fleet import runner

    return _outcome("plan", runner.look(job.target, job.board()), every=every)


def apply(job: Job, shown: Outcome, *, every: bool, progress: Progress | None) -> Outcome:
    """Change what ``shown`` named, then look again: whatever is left is a failure.

    A host on which other resources differ now than ``shown`` said is not touched.
    """
    from calm.fleet import runner

    board = job.board()
    board.expected = _expected(shown)
    first = runner.converge(job.target, board, progress)
    done = _outcome("apply", first, every=every)
    # A rollback has made the settings of before those of now: to go back once more would not verify it.
    again = runner.look(job.target, job.board(settings_for=generations.present if job.settings_for else None))
    return _verified(done, again)


def who() -> str:
    """Who runs this, as the lock on a host names it."""
    return f"{getpass.getuser()}@{socket.gethostname()} pid {os.getpid()}"


def _outcome(command: str, result: Pass, *, every: bool) -> Outcome:
    runs = result.board.hosts
    whole = report.document(command, result.hosts, runs, result.unreachable, every=every)
    return Outcome(document=whole, notes={name: _notes(run) for name, run in runs.items()})


def _notes(run: HostRun) -> tuple[str, ...]:
    return run.drift.notes if run.drift else ()


def _expected(shown: Outcome) -> dict[str, frozenset[tuple[str, str]]]:
    return {
        row["name"]: frozenset((resource["id"], resource["action"]) for resource in row["resources"])
        for row in shown.document["hosts"]
    }


def _verified(done: Outcome, again: Pass) -> Outcome:
    """Mark as failed what a second look still finds different."""
    for row in done.document["hosts"]:
        run = again.board.hosts.get(row["name"])
        if row["status"] != "converged" or run is None or run.drift is None:
            continue
        left = [resource for resource in run.drift.pending if not resource.refused]
        if left:
            row["status"] = "failed"
            row["error"] = {
                "code": "left",
                "message": f"Still different after apply: {', '.join(resource.id for resource in left)}.",
                "hint": "Something else on the host changes it back; `calm plan` shows the fields.",
            }
            done.document["summary"]["failed"] += len(left)
    return done
