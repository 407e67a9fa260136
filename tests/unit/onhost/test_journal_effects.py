"""An apply is noted in the agent's own journal, and nothing fails for it."""

from __future__ import annotations

from pathlib import Path

from calm.journal import Journal
from tests.unit.onhost.pushed import effect, statuses

NOTE = {
    "do": "journal",
    "body": {"resources": [{"id": "service:redis", "action": "update", "result": "changed"}]},
}


def test_an_apply_stands_in_the_agents_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", notice=print)
    assert statuses(effect(tmp_path, NOTE)) == ["done"]
    (kept,) = journal.applies(since=0)
    journal.close()
    assert kept["apply"] == NOTE["body"]
    assert kept["who"]


def test_without_a_journal_none_is_made(tmp_path: Path) -> None:
    assert statuses(effect(tmp_path, NOTE)) == ["unchanged"]
    assert not (tmp_path / "journal.db").exists()


def test_a_damaged_journal_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"garbage" * 100)
    assert statuses(effect(tmp_path, NOTE)) == ["unchanged"]
    assert (tmp_path / "journal.db").read_bytes() == b"garbage" * 100
