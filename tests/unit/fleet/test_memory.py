"""Which hosts an apply left unfinished."""

from __future__ import annotations

from pathlib import Path

import pytest

from calm.fleet import memory
from calm.fleet.targets import Target


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Target(inventory=tmp_path / "fleet.py", checkout=tmp_path)


def test_nothing_is_unfinished_at_first(target: Target) -> None:
    assert memory.failed(target) == frozenset()
    memory.remember(target, tried=["a"], left=[])
    assert list(Path(target.checkout).iterdir()) == [], "nothing to note, nothing written"


def test_hosts_that_were_not_tried_stay_noted(target: Target) -> None:
    memory.remember(target, tried=["a", "b", "c"], left=["a", "b"])
    memory.remember(target, tried=["b"], left=[])
    assert memory.failed(target) == {"a"}


def test_a_broken_note_is_no_note(target: Target) -> None:
    memory.remember(target, tried=["a"], left=["a"])
    note = next(Path(target.checkout, "state").rglob("*.json"))
    assert note.stat().st_mode & 0o077 == 0
    note.write_text("{")
    assert memory.failed(target) == frozenset()
