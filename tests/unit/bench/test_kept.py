"""Samples in the journal while a run goes on."""

from __future__ import annotations

import time
from pathlib import Path

from calm.bench.kept import SAMPLES, Kept
from calm.journal import Journal


def rows(path: Path) -> list[dict[str, object]]:
    journal = Journal(path, notice=lambda _: None)
    try:
        return journal.benches(since=0)
    finally:
        journal.close()


def test_samples_come_before_the_whole_and_carry_the_run(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Kept(path, {"id": "r1", "mode": "quick"}, notice=lambda _: None) as kept:
        for number in range(3):
            kept.add("llm", {"at": number})
        kept.finish("quick", {"schema": 1})
    first, last = rows(path)
    assert first["mode"] == SAMPLES
    assert first["bench"] == {
        "id": "r1", "mode": "quick", "samples": [{"part": "llm", "at": number} for number in range(3)],
    }  # fmt: skip
    assert (last["mode"], last["bench"]) == ("quick", {"schema": 1})


def test_a_sample_is_on_the_disk_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Kept(path, {"id": "r1"}, notice=lambda _: None) as kept:
        kept.add("llm", {"at": 1})
        deadline = time.monotonic() + 10
        while not rows(path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(rows(path)) == 1


def test_a_journal_that_cannot_be_is_said_once_and_nothing_else_happens(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    said: list[str] = []
    with Kept(tmp_path / "file" / "journal.db", {"id": "r1"}, notice=said.append) as kept:
        kept.add("llm", {"at": 1})
        kept.finish("quick", {})
    assert len(said) == 1
    assert "goes on without it" in said[0]
