"""Workloads, samples, distributions."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calm.bench.model import Limits, Measured, Sample, Workload, distribution


def test_no_value_is_null_and_not_zero() -> None:
    assert distribution([None, None]) == {
        "n": 0, "mean": None, "p50": None, "p90": None, "p99": None, "min": None, "max": None,
    }  # fmt: skip


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=150))
def test_percentiles_are_values_that_were_measured(values: list[float]) -> None:
    found = distribution(values)
    rounded = {round(value, 3) for value in values}
    assert found["n"] == len(values)
    assert {found["p50"], found["p90"], found["min"], found["max"]} <= rounded
    assert found["mean"] == pytest.approx(statistics.fmean(values), abs=0.001)
    assert (found["p99"] is None) is (len(values) < 100)


def test_nearest_rank() -> None:
    found = distribution(range(1, 101))
    assert (found["p50"], found["p90"], found["p99"]) == (50, 90, 99)


def test_a_description_has_the_prompts_by_digest_and_no_more() -> None:
    described = Workload(prompts=("geheim",), runs=9, warmup=4).described()
    assert "geheim" not in str(described)
    assert described == Workload(prompts=("geheim",)).described()
    assert described != Workload(prompts=("anders",)).described()


@pytest.mark.parametrize(
    ("sample", "met"),
    [
        (Sample(run=0, at=0, ttft_ms=90, latency_ms=900, inter_token_ms=(9, 11)), True),
        (Sample(run=0, at=0, ttft_ms=110, latency_ms=900, inter_token_ms=(9, 11)), False),
        (Sample(run=0, at=0, ttft_ms=90, latency_ms=900, inter_token_ms=(9, 13)), False),
        (Sample(run=0, at=0, ttft_ms=90, latency_ms=None, inter_token_ms=(9,)), False),
        (Sample(run=0, at=0, ttft_ms=90, latency_ms=1, inter_token_ms=(9,), kind="timeout"), False),
    ],
)
def test_limits(sample: Sample, met: bool) -> None:
    assert Limits(ttft_ms=100, inter_token_ms=10, latency_ms=1000).met(sample) is met
    assert not Limits()


def test_errors_are_counted_by_kind() -> None:
    kinds = (None, "timeout", "http_500", "timeout")
    measured = Measured().plus([Sample(run=0, at=0, kind=kind) for kind in kinds], 1.0)
    assert measured.errors == {"timeout": 2, "http_500": 1}
    assert len(measured.good) == 1


def test_the_journals_sample_leaves_out_what_is_unknown() -> None:
    sample = Sample(run=0, at=0.5, ttft_ms=1.5, gaps_ms=(1.23456,))
    assert sample.to_json() == {"run": 0, "at": 0.5, "ttft_ms": 1.5, "gaps_ms": [1.235]}
