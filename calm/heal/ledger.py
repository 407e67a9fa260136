"""The acts of this host, as the budget needs them: the journal's, plus what it could not take.

A long-lived agent keeps its own acts in memory as well, so a full disk does not make it forget how often it
has tried; a single run without a journal may not act at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from calm.heal.budget import DAY, Act
from calm.heal.clock import Clock
from calm.heal.model import Finding
from calm.journal import Entry, Journal, JournalError

Mark = Literal["quarantine", "release"]
T = TypeVar("T")
_ACTS = frozenset({"begun", "done", "failed"})


@dataclass(frozen=True, kw_only=True)
class Written:
    """One begun remedy. ``row`` is its number in the journal, ``None`` if that could not take it."""

    row: int | None
    key: str
    turn: str
    began: float


class Ledger:
    """What was done on this host within a day, on the clock's line, whoever did it."""

    def __init__(self, journal: Journal | None, clock: Clock, notice: Callable[[str], None]) -> None:
        self._journal, self._clock, self._notice = journal, clock, notice
        self._rows: dict[int, Entry] = {}
        self._times: dict[int, tuple[float, float | None]] = {}
        self._own: dict[str, list[Act]] = defaultdict(list)
        self._marks: dict[str, Mark] = {}
        self._complained = False

    def use(self, journal: Journal) -> None:
        """Write to this journal from now on."""
        self._journal = journal

    def refresh(self) -> None:
        """Read what others have done since."""
        entries = self._try(lambda journal: journal.remedies(since=self._clock.wall() - 2 * DAY))
        for entry in entries or ():
            self._rows[entry.id] = entry
            began, ended = self._times.get(entry.id, (self._clock.from_wall(entry.at), None))
            if ended is None and entry.ended is not None:
                ended = self._clock.from_wall(entry.ended)
            self._times[entry.id] = began, ended
        marks = self._try(lambda journal: journal.last_marks())
        if marks is not None:
            self._marks = {key: _mark(entry) for key, entry in marks.items()}

    def acts(self, key: str) -> list[Act]:
        """The acts on ``key``; what turned out to be needless is none."""
        journalled = [
            Act(turn=entry.turn, began=self._times[row][0], ended=self._times[row][1])
            for row, entry in self._rows.items()
            if entry.key == key and entry.result in _ACTS and entry.action not in ("quarantine", "release")
        ]
        return journalled + self._own[key]

    def last_end(self) -> dict[str, float]:
        """When each key was last acted on."""
        keys = {entry.key for entry in self._rows.values()} | set(self._own)
        ends = {key: [act.ended or act.began for act in self.acts(key)] for key in keys}
        return {key: max(times) for key, times in ends.items() if times}

    @property
    def quarantined(self) -> frozenset[str]:
        return frozenset(key for key, mark in self._marks.items() if mark == "quarantine")

    def begin(self, finding: Finding, turn: str) -> Written:
        """Write down an act before it is done."""
        row = self._write(finding, turn, action=finding.action or "", result="begun")
        written = Written(row=row, key=finding.key, turn=turn, began=self._clock.now())
        if row is None:
            self._own[finding.key].append(Act(turn=turn, began=written.began))
        return written

    def finish(self, written: Written, *, result: str, reason: str) -> float:
        """Write down how it ended; returns what it took, in milliseconds."""
        now = self._clock.now()
        took = round(1000 * (now - written.began), 1)
        row = written.row
        if row is not None:
            self._try(lambda journal: journal.finish(row, result=result, reason=reason, took_ms=took))
            self._times[row] = written.began, now
            self.refresh()
        else:
            acts = self._own[written.key]
            acts[:] = [act for act in acts if act.turn != written.turn or act.ended is not None]
            if result in _ACTS:
                acts.append(Act(turn=written.turn, began=written.began, ended=now))
        return took

    def verify(self, written: Written, *, helped: bool) -> None:
        """Write down whether it helped."""
        row = written.row
        if row is not None:
            self._try(lambda journal: journal.verify(row, helped=helped))

    def mark(self, finding: Finding, mark: Mark, reason: str) -> None:
        """Put a key into quarantine, or release it."""
        result = "quarantined" if mark == "quarantine" else "done"
        self._write(finding, f"{mark}-{self._clock.wall()}", action=mark, result=result, reason=reason)
        self._marks[finding.key] = mark

    def _write(
        self, finding: Finding, turn: str, *, action: str, result: str, reason: str | None = None
    ) -> int | None:
        says: Mapping[str, Any] = finding.evidence
        return self._try(
            lambda journal: journal.begin(
                key=finding.key,
                turn=turn,
                rule=finding.rule,
                target=finding.target,
                action=action,
                reason=reason or str(says.get("says", finding.rule)),
                evidence=says,
                result=result,
            )
        )

    def _try(self, work: Callable[[Journal], T]) -> T | None:
        if self._journal is None:
            return None
        try:
            answer = work(self._journal)
        except JournalError as error:
            if not self._complained:
                self._notice(f"{error}. Acts are remembered in memory until it can be written again.")
            self._complained = True
            return None
        self._complained = False
        return answer


def _mark(entry: Entry) -> Mark:
    return "quarantine" if entry.action == "quarantine" else "release"
