"""Callers in a closed loop, arrivals in an open one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from itertools import islice

import pytest

from calm.bench import llm
from calm.bench.model import Measured, Workload
from calm.bench.stream import Target
from tests.lab.paced import Pace, Paced

FAST = Pace(first=0.002, gap=0.001, tokens=3)


def measured(
    workload: Workload, pace: Pace = FAST, fault: str = "", script: Mapping[int, str] | None = None
) -> tuple[Measured, Paced]:
    async def both() -> tuple[Measured, Paced]:
        server = Paced(pace=pace, fault=fault, script=script or {})
        listening = await server.serve()
        try:
            return await llm.run(Target(url=server.url(), model="m"), workload, lambda _: None), server
        finally:
            listening.close()

    return asyncio.run(both())


def test_warm_up_is_outside_the_figures_and_the_connection_is_kept() -> None:
    found, server = measured(Workload(requests=4, runs=2, warmup=3))
    assert len(server.exchanges) == 3 + 8
    assert len(found.samples) == 8
    assert [sample.run for sample in found.samples] == [0] * 4 + [1] * 4
    assert server.most_open == 1
    assert found.errors == {}


def test_so_many_callers_at_once() -> None:
    found, server = measured(
        Workload(requests=12, runs=1, concurrency=6), Pace(first=0.05, gap=0.001, tokens=2)
    )
    assert len(found.good) == 12
    assert server.most_open == 6


def test_an_open_loop_asks_however_many_still_wait() -> None:
    slow = Pace(first=0.3, gap=0.001, tokens=2)
    found, server = measured(Workload(requests=8, runs=1, rate=50, arrivals="constant"), slow)
    assert server.most_open >= 6
    begun = [sample.at for sample in found.samples]
    assert begun == pytest.approx([number / 50 for number in range(8)], abs=1e-6)
    assert all(sample.late_ms is not None and sample.late_ms >= 0 for sample in found.samples)


def test_times_of_an_open_loop_count_from_when_a_request_was_due() -> None:
    found, _ = measured(Workload(requests=3, runs=1, rate=100))
    for sample in found.samples:
        assert sample.ttft_ms is not None
        assert sample.late_ms is not None
        assert sample.ttft_ms > sample.late_ms + 1000 * FAST.first * 0.9


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_arrivals_are_the_same_each_time_and_have_the_rate(arrivals: str) -> None:
    work = Workload(rate=20.0, arrivals=arrivals)
    first, again = ([*islice(llm.arrivals(work, 0), 4000)] for _ in range(2))
    assert first == again
    assert first == sorted(first)
    assert first[-1] / len(first) == pytest.approx(1 / 20, rel=0.06)
    if arrivals == "poisson":
        assert first != [*islice(llm.arrivals(work, 1), 4000)]


def test_prompts_take_turns_and_the_server_is_asked_to_count() -> None:
    work, target = Workload(prompts=("하나", "둘"), max_tokens=7), Target(url="http://x", model="m")
    bodies = [json.loads(llm.body(target, work, number)) for number in range(3)]
    assert [each["messages"][0]["content"] for each in bodies] == ["하나", "둘", "하나"]
    assert bodies[0]["max_tokens"] == 7
    assert bodies[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("reset", "broken_stream"), ("500", "http_500"), ("401", "http_401"), ("garbage", "garbage"),
        ("error200", "error_body"), ("empty", "empty"), ("die", "broken_stream"),
        ("error_event", "error_body"),
    ],
)  # fmt: skip
def test_an_error_in_the_warm_up_ends_it_with_its_kind(fault: str, kind: str) -> None:
    found, server = measured(Workload(), fault=fault)
    assert found.errors == {kind: 1}
    assert len(server.exchanges) == 1
    assert found.samples[0].says
    assert found.samples[0].ttft_ms is None


def test_nobody_there(free_port: object) -> None:
    async def ask() -> Measured:
        url = f"http://127.0.0.1:{free_port()}/v1/chat/completions"  # type: ignore[operator]
        return await llm.run(Target(url=url, model="m"), Workload(), lambda _: None)

    assert asyncio.run(ask()).errors == {"refused": 1}


def test_what_goes_wrong_half_way_is_counted_by_kind_and_in_no_figure() -> None:
    script = {2: "endless", 3: "die", 4: "500", 5: "empty"}
    found, _ = measured(Workload(requests=6, runs=1, timeout=0.4), script=script)
    assert found.errors == {"timeout": 1, "broken_stream": 1, "http_500": 1, "empty": 1}
    assert len(found.good) == 2
    assert all(
        sample.latency_ms is None and sample.ttft_ms is None for sample in found.samples if not sample.well
    )
