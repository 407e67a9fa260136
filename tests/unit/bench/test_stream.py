"""From arrivals to figures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from calm.bench.stream import Chunk, figures, per_token
from calm.llm.events import AttemptError

ROLE: dict[str, Any] = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
STOP: dict[str, Any] = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def word(text: str = "a", key: str = "content", **others: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {key: text}}], **others}


def usage(tokens: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"completion_tokens": tokens}}


def arrivals(*events: tuple[float, Any]) -> list[tuple[float, bytes]]:
    return [(at, b"[DONE]" if event is None else json.dumps(event).encode()) for at, event in events]


def test_a_chunk_with_a_role_alone_is_no_token() -> None:
    told = arrivals((10.1, ROLE), (10.3, word()), (10.32, word()), (10.33, STOP), (10.35, None))
    found = figures(told, began=10.0, streamed=True)
    assert found["ttft_ms"] == pytest.approx(300)
    assert found["latency_ms"] == pytest.approx(350)
    assert found["gaps_ms"] == pytest.approx([20])
    assert (found["tokens"], found["counted"]) == (2, "chunks")


def test_reasoning_is_the_first_token_and_not_the_first_word() -> None:
    told = arrivals(
        (1.1, word("hm", "reasoning_content")), (1.2, word("hm", "reasoning")), (1.5, word()), (1.6, STOP)
    )
    found = figures(told, began=1.0, streamed=True)
    assert found["ttft_ms"] == pytest.approx(100)
    assert found["ttfo_ms"] == pytest.approx(500)


def test_a_model_that_only_thinks_has_no_first_word() -> None:
    found = figures(arrivals((1.1, word("hm", "reasoning")), (1.2, STOP)), began=1.0, streamed=True)
    assert found["ttfo_ms"] is None


def test_tokens_are_counted_by_the_server_where_it_does() -> None:
    told = arrivals((1.0, word("a b")), (1.1, word("c d")), (1.2, word("e f")), (1.2, STOP), (1.2, usage(6)))
    found = figures(told, began=0.9, streamed=True)
    assert (found["tokens"], found["counted"]) == (6, "usage")
    assert found["inter_token_ms"] == pytest.approx([50, 50])


def test_chunks_that_say_how_many_tokens_they_hold() -> None:
    told = arrivals(
        (1.0, word("a", usage={"completion_tokens": 1})),
        (1.3, word("b c d", usage={"completion_tokens": 4})),
        (1.4, word("e", usage={"completion_tokens": 5})),
        (1.4, STOP),
    )
    found = figures(told, began=0.9, streamed=True)
    assert found["inter_token_ms"] == pytest.approx([100, 100, 100, 100])


@pytest.mark.parametrize(
    ("counts", "whole", "expected"),
    [
        ([None, None, None], None, [10, 20]),
        ([None, None, None], 2, [10, 20]),
        ([None, None, None], 6, [5, 10]),
        ([1, 2, 4], 4, [10, 10, 10]),
        ([1, 1, 2], 2, [10, 20]),
        ([1, None, 3], 3, [10, 20]),
    ],
)
def test_time_per_token(counts: list[int | None], whole: int | None, expected: list[float]) -> None:
    chunks = [Chunk(at=0, spoken=True, usage=count) for count in counts]
    assert per_token([10, 20], chunks, whole) == pytest.approx(expected)


def test_an_answer_that_is_not_streamed_has_a_latency_and_no_first_token() -> None:
    whole = {"choices": [{"message": {"content": "hi"}}], "usage": {"completion_tokens": 3}}
    found = figures(arrivals((1.5, whole)), began=1.0, streamed=False)
    assert found == {"latency_ms": pytest.approx(500), "server_stats": None, "tokens": 3, "counted": "usage"}


def test_the_servers_own_figures_are_kept_beside_ours() -> None:
    stats = {"tokens_per_second": 51.2, "time_to_first_token": 0.3, "stop_reason": "eosFound"}
    found = figures(arrivals((1.0, word()), (1.1, STOP | {"stats": stats})), began=0.9, streamed=True)
    assert found["server_stats"] == {"tokens_per_second": 51.2, "time_to_first_token": 0.3}


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ([], "empty"),
        ([(1.0, ROLE), (1.1, STOP), (1.2, None)], "empty"),
        ([(1.0, ROLE), (1.1, word())], "broken_stream"),
        ([(1.0, word()), (1.1, {"error": {"message": "crashed"}})], "error_body"),
        ([(1.0, [1, 2])], "garbage"),
    ],
)
def test_what_is_no_answer_is_no_figure(told: list[tuple[float, Any]], kind: str) -> None:
    with pytest.raises(AttemptError) as caught:
        figures(arrivals(*told), began=0.5, streamed=True)
    assert caught.value.kind == kind
