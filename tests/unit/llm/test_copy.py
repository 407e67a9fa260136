"""The reference agent API carries the same client."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]
COPY = ROOT / "stack" / "agent_api" / "agent_api" / "llm"


def test_the_copy_is_the_same() -> None:
    ours, theirs = (
        {each.name: each.read_text() for each in folder.glob("*.py")}
        for folder in (ROOT / "calm" / "llm", COPY)
    )
    assert theirs == ours, "copy it again: cp calm/llm/*.py stack/agent_api/agent_api/llm/"
