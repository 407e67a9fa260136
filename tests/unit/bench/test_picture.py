"""Pictures are drawn, and what cannot be drawn is said."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from calm.bench import picture
from tests.unit.bench.documents import document

DOCUMENT = document(runs=[{"ttft_ms": [1.0, 2.0], "output_tokens_per_s": [50.0, 51.0]}] * 3)


def test_distributions_of_two(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.svg"
    picture.distributions(path, {"before": DOCUMENT, "after": DOCUMENT})
    assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_a_metric_over_past_runs(tmp_path: Path) -> None:
    picture.course(tmp_path / "a.png", [DOCUMENT, DOCUMENT | {"started_at": 90_000}], ["llm.ttft_ms"])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(picture.PictureError, match=r"ends in \.svg"):
        picture.distributions(tmp_path / "a.gif", {"a": DOCUMENT})
    with pytest.raises(picture.PictureError, match="nothing to draw"):
        picture.distributions(tmp_path / "a.svg", {"a": document(runs=[])})
    with pytest.raises(picture.PictureError, match="nothing to draw"):
        picture.course(tmp_path / "a.svg", [DOCUMENT], ["chat.latency_ms"])
