from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from calm.journal import DAY, Journal, JournalError

NOW = 1_770_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def notices() -> list[str]:
    return []


Open = Callable[[], Journal]


@pytest.fixture
def opened(tmp_path: Path, clock: Clock, notices: list[str]) -> Iterator[Open]:
    journals: list[Journal] = []

    def open_journal() -> Journal:
        journals.append(Journal(tmp_path / "journal.db", notice=notices.append, now=clock))
        return journals[-1]

    yield open_journal
    for journal in journals:
        journal.close()


def _begin(journal: Journal, **changes: object) -> int:
    values: dict[str, object] = {
        "key": "container:redis",
        "turn": "1",
        "rule": "container-unhealthy",
        "target": "container:redis",
        "action": "restart",
        "reason": "unhealthy",
        "evidence": {"health": "unhealthy"},
    }
    return journal.begin(**(values | changes))  # type: ignore[arg-type]


def test_a_sample_comes_back_as_it_went_in(opened: Open) -> None:
    journal = opened()
    journal.add_sample(NOW, json.dumps({"host": "a", "cpu": None}))
    assert list(journal.samples(since=NOW)) == [{"host": "a", "cpu": None}]
    assert list(journal.samples(since=NOW + 1)) == []


def test_many_samples_come_in_their_order_and_each_once(opened: Open) -> None:
    """More than are read at once, with many of one moment, written in another order."""
    journal = opened()
    moments = [NOW + number // 70 for number in range(500, 0, -1)]
    for number, at in enumerate(moments):
        journal.add_sample(at, json.dumps({"number": number, "at": at}))

    read = list(journal.samples(since=NOW))

    assert sorted(sample["number"] for sample in read) == list(range(500))
    assert [sample["at"] for sample in read] == sorted(moments)
    assert len(list(journal.samples(since=NOW + 3))) == sum(at >= NOW + 3 for at in moments)


def test_samples_may_be_pruned_while_they_are_read(opened: Open) -> None:
    journal = opened()
    for number in range(200):
        journal.add_sample(NOW - 2 * DAY + number, json.dumps({"number": number}))
    reading = journal.samples(since=0)
    first = next(reading)["number"]

    journal.prune()

    rest = [sample["number"] for sample in reading]
    assert first == 0
    assert rest == sorted(set(rest)), "none twice, none out of order"
    assert len(list(journal.samples(since=0))) < 3, "pruning has thinned them"


def test_a_remedy_is_remembered_before_it_is_finished_and_by_the_next_agent(
    opened: Open, clock: Clock
) -> None:
    row = _begin(opened())
    (entry,) = opened().remedies()
    assert (entry.result, entry.ended, entry.helped) == ("begun", None, None)
    clock.now += 2
    journal = opened()
    journal.finish(row, result="done", reason="restarted", took_ms=2000.0)
    journal.verify(row, helped=True)
    (entry,) = opened().remedies(key="container:redis")
    assert (entry.result, entry.ended, entry.helped) == ("done", NOW + 2, True)
    assert entry.reason == "restarted", "what was done is not overwritten by whether it helped"
    assert entry.evidence == {"health": "unhealthy"}


def test_remedies_by_key_time_and_number(opened: Open, clock: Clock) -> None:
    journal = opened()
    first = _begin(journal)
    clock.now += 100
    second = _begin(journal, key="lmstudio")
    assert [entry.id for entry in journal.remedies(key="lmstudio")] == [second]
    assert [entry.id for entry in journal.remedies(since=NOW + 50)] == [second]
    assert [entry.id for entry in journal.remedies(after=first)] == [second]


def test_the_last_mark_of_a_key_says_whether_it_is_quarantined(opened: Open) -> None:
    journal = opened()
    _begin(journal, action="quarantine", result="quarantined")
    assert journal.last_marks()["container:redis"].action == "quarantine"
    _begin(journal, action="release", result="done")
    _begin(journal)
    assert journal.last_marks()["container:redis"].action == "release"


def test_a_finding_keeps_its_beginning_until_it_is_gone(opened: Open) -> None:
    journal = opened()
    finding = ("disk-low", "disk", "report", NOW, {"free": 1})
    assert journal.see([finding], at=NOW) == {("disk-low", "disk"): NOW}
    later = ("disk-low", "disk", "report", NOW + 60, {"free": 0})
    assert journal.see([later], at=NOW + 60) == {("disk-low", "disk"): NOW}
    journal.see([], at=NOW + 120)
    (row,) = journal.findings(since=NOW)
    assert (row["since"], row["seen"], row["ended"]) == (NOW, NOW + 60, NOW + 120)
    assert row["evidence"] == {"free": 0}
    assert journal.see([later], at=NOW + 180) == {("disk-low", "disk"): NOW + 60}


def test_a_look_at_some_rules_ends_no_finding_of_others(opened: Open) -> None:
    journal = opened()
    journal.see([("disk-low", "disk", "report", NOW, {})], at=NOW)
    journal.see([], at=NOW + 1, ends=("lmstudio-runaway",))
    assert journal.findings(since=NOW)[0]["ended"] is None


def test_applies_benchmarks_and_runs(opened: Open) -> None:
    journal = opened()
    journal.add_apply("me", {"changed": 2})
    journal.add_bench("quick", {"llm": {}})
    journal.ran("heal --only docker", 0, 12.0)
    journal.ran("heal --only docker", 7, 12.0)
    assert journal.applies(since=0) == [{"at": NOW, "who": "me", "apply": {"changed": 2}}]
    assert journal.benches(since=0) == [{"at": NOW, "mode": "quick", "bench": {"llm": {}}}]
    assert [run.command for run in journal.last_runs()] == ["heal --only docker"]


def test_garbage_is_set_aside_and_said_so(tmp_path: Path, opened: Open, notices: list[str]) -> None:
    (tmp_path / "journal.db").write_bytes(b"no journal at all, " * 500)
    opened().add_sample(NOW, json.dumps({"host": "a"}))
    (aside,) = tmp_path.glob("journal.db.broken-*")
    assert aside.read_bytes().startswith(b"no journal at all")
    assert "damaged" in notices[0]
    assert aside.name in notices[0]


def test_a_file_that_breaks_while_it_is_used_is_set_aside(
    tmp_path: Path, opened: Open, notices: list[str]
) -> None:
    journal = opened()
    for number in range(200):
        journal.add_sample(NOW + number, json.dumps({"host": os.urandom(200).hex()}))
    journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / "journal.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    fresh = opened()
    list(fresh.samples(since=0))
    fresh.add_sample(NOW, json.dumps({"host": "new"}))
    assert [sample["host"] for sample in fresh.samples(since=0)] == ["new"]
    assert len(notices) == 1


def test_a_journal_of_a_newer_calm_is_left_alone(tmp_path: Path, opened: Open) -> None:
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError, match="newer calm"):
        opened()
    assert not list(tmp_path.glob("*.broken-*"))


def test_a_full_disk_is_an_error_in_words_and_nothing_is_half_written(opened: Open) -> None:
    journal = opened()
    journal.add_sample(NOW, json.dumps({"host": "a"}))
    (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
    # SQLite's own limit of pages fails just as a full disk does: "database or disk is full".
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="full"):
        journal.add_sample(NOW + 1, json.dumps({"host": os.urandom(200_000).hex()}))
    journal._db.execute("PRAGMA max_page_count = 100000")
    journal.add_sample(NOW + 2, json.dumps({"host": "b"}))
    assert [sample["host"] for sample in journal.samples(since=0)] == ["a", "b"]


def test_a_folder_that_cannot_be_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(tmp_path / "file" / "journal.db", notice=print)


def test_what_was_said_to_be_written_survives_kill_9(tmp_path: Path, opened: Open) -> None:
    program = f"""
import pathlib
from calm.journal import Journal
journal = Journal(pathlib.Path({str(tmp_path / "journal.db")!r}), notice=print)
for number in range(100000):
    row = journal.begin(key="k", turn=str(number), rule="r", target="t", action="a", reason="", evidence={{}})
    print(row, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    said += [int(line) for line in process.stdout.read().split()]
    process.wait()
    assert {entry.id for entry in opened().remedies()} >= set(said)


def test_a_simulated_year_stays_far_below_100_megabytes(opened: Open, clock: Clock) -> None:
    """A snapshot of 10 containers every 30 s for 40 days (the rest of the year is only the hourly ones)."""
    journal = opened()
    document = {"containers": [{"name": f"c{n}", "figures": os.urandom(30).hex()} for n in range(10)]}
    body = json.dumps(document)
    assert len(body) > 800
    journal._db.execute("PRAGMA synchronous = OFF")
    start, step = NOW, 300.0
    hourly = int(366 * DAY / 3600)
    for hour in range(hourly):
        journal.add_sample(start + hour * 3600, body)
    clock.now = start + 366 * DAY
    for number in range(int(DAY / step)):
        journal.add_sample(clock.now - DAY + number * step, body)
    journal.prune()
    kept = len(list(journal.samples(since=0)))
    assert 366 * 24 <= kept < 366 * 24 + 400
    # One day at 30 s is ten times the rows of one at 300 s.
    assert journal.size_bytes() / kept * (kept + 9 * DAY / step + 14 * 144) < 50_000_000


def test_thinning_keeps_one_per_slice_and_gives_the_space_back(opened: Open, clock: Clock) -> None:
    journal = opened()
    journal._db.execute("PRAGMA synchronous = OFF")
    for number in range(2880):
        journal.add_sample(NOW + number * 30, json.dumps({"noise": os.urandom(2000).hex()}))
    before = journal.size_bytes()
    clock.now = NOW + 3 * DAY
    journal.prune()
    assert len(list(journal.samples(since=0))) == pytest.approx(144, abs=1)
    journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert journal.size_bytes() < before / 3
