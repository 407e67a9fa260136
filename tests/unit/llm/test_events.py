"""Server-sent events, however their bytes arrive."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calm.llm.events import AttemptError, Events, complaint, finished, parsed, said

STREAM = (
    'data: {"a": "기계"}\n\n: a comment\n\nevent: error\r\ndata: {"b":\r\ndata: 2}\r\n\r\ndata:[DONE]\n\n'
).encode()
EVENTS = [b'{"a": "' + "기계".encode() + b'"}', b'{"b":\n2}', b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_cuts_make_no_difference(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    events, got = Events(), []
    for begin, end in pairwise(places):
        got += events.feed(STREAM[begin:end])
    assert got == EVENTS


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, None),
        ({"choices": [{"delta": {"content": "hi"}}]}, "hi"),
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, ""),
        ({"choices": [{"delta": {"reasoning": "hm"}}]}, ""),
        ({"choices": [{"delta": {"tool_calls": [{}]}}]}, ""),
        ({"choices": [{"message": {"content": "whole"}}]}, "whole"),
        ({"choices": [], "usage": {}}, None),
        ({"choices": None}, None),
        ({"choices": ["odd"]}, None),
        ({"choices": [{"delta": "odd"}]}, None),
    ],
)
def test_what_a_delta_says(event: dict[str, Any], expected: str | None) -> None:
    assert said(event) == expected


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"<html>", "garbage"),
        (b"[1]", "garbage"),
        (b'{"error": "Unexpected endpoint"}', "error_body"),
        (b'{"error": {"message": "two\\nlines"}}', "error_body"),
        (b'{"error": {"type": "x"}}', "error_body"),
    ],
)
def test_what_is_no_answer(payload: bytes, kind: str) -> None:
    with pytest.raises(AttemptError) as caught:
        parsed(payload)
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)


def test_a_long_complaint_is_cut() -> None:
    assert len(complaint({"error": "x" * 999}) or "") == 200
    assert complaint({"choices": []}) is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"[DONE]", True),
        (json.dumps({"choices": [{"finish_reason": "stop"}]}).encode(), True),
        (b'{"choices": [{"finish_reason": null}]}', False),
        (b"{}", False),
    ],
)
def test_when_an_answer_is_whole(payload: bytes, expected: bool) -> None:
    assert finished(parsed(payload)) is expected
