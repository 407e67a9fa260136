from __future__ import annotations

import json
from pathlib import Path

import pytest

from calm.heal.clock import Clock
from calm.heal.ledger import Ledger
from calm.heal.model import Finding
from calm.journal import Journal

START = 1_770_000_000.0
FINDING = Finding(
    rule="container-unhealthy",
    target="container:redis",
    evidence={"says": "it is sick"},
    since=START,
    mode="act",
    action="restart-container",
)


class Times:
    """A wall clock that can be set and a monotonic one that only runs."""

    def __init__(self) -> None:
        self.wall, self.steady = START, 500.0

    def run(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady)


@pytest.fixture
def times() -> Times:
    return Times()


def _journal(path: Path, times: Times) -> Journal:
    return Journal(path / "journal.db", notice=print, now=lambda: times.wall)


def _ages(ledger: Ledger, clock: Clock) -> list[float]:
    ledger.refresh()
    return [round(clock.now() - act.began) for act in ledger.acts(FINDING.key)]


def _act(ledger: Ledger, result: str = "done") -> None:
    written = ledger.begin(FINDING, "turn")
    ledger.finish(written, result=result, reason="")


def test_the_next_agent_knows_what_this_one_did(tmp_path: Path, times: Times) -> None:
    _act(Ledger(_journal(tmp_path, times), times.clock(), print))
    times.run(60)
    clock = times.clock()
    assert _ages(Ledger(_journal(tmp_path, times), clock, print), clock) == [60]


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_changes_nothing_for_an_agent_that_stays(
    tmp_path: Path, times: Times, jump: float
) -> None:
    clock = times.clock()
    ledger = Ledger(_journal(tmp_path, times), clock, print)
    _act(ledger)
    times.run(60)
    times.wall += jump
    assert _ages(ledger, clock) == [60]


def test_after_the_clock_went_back_an_act_counts_as_one_of_now(tmp_path: Path, times: Times) -> None:
    _act(Ledger(_journal(tmp_path, times), times.clock(), print))
    times.wall -= 3600
    clock = times.clock()
    assert _ages(Ledger(_journal(tmp_path, times), clock, print), clock) == [0]


def test_what_turned_out_needless_is_no_act(tmp_path: Path, times: Times) -> None:
    clock = times.clock()
    ledger = Ledger(_journal(tmp_path, times), clock, print)
    _act(ledger, "deferred")
    _act(ledger, "failed")
    assert len(_ages(ledger, clock)) == 1


def test_an_act_that_was_interrupted_counts(tmp_path: Path, times: Times) -> None:
    Ledger(_journal(tmp_path, times), times.clock(), print).begin(FINDING, "turn")
    clock = times.clock()
    assert _ages(Ledger(_journal(tmp_path, times), clock, print), clock) == [0]


def test_marks_are_remembered(tmp_path: Path, times: Times) -> None:
    ledger = Ledger(_journal(tmp_path, times), times.clock(), print)
    ledger.mark(FINDING, "quarantine", "spent")
    later = Ledger(_journal(tmp_path, times), times.clock(), print)
    later.refresh()
    assert later.quarantined == {"container:redis"}
    later.mark(FINDING, "release", "healthy")
    ledger.refresh()
    assert ledger.quarantined == frozenset()


def test_a_journal_that_cannot_be_written_is_told_once_and_acts_are_kept_in_memory(
    tmp_path: Path, times: Times
) -> None:
    said: list[str] = []
    journal = _journal(tmp_path, times)
    (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    while True:
        try:
            journal.add_sample(times.wall, json.dumps({"fill": list(range(1000))}))
        except Exception:
            break
    clock = times.clock()
    ledger = Ledger(journal, clock, said.append)
    finding = Finding(rule="r", target="container:redis", evidence={"says": "x" * 9000}, since=0, action="a")
    written = ledger.begin(finding, "turn")
    assert written.row is None
    ledger.finish(written, result="done", reason="")
    assert len(ledger.acts(FINDING.key)) == 1
    assert len(said) == 1
    assert "full" in said[0]
