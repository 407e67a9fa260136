"""Verdicts: what they need, how often they are wrong, what they find."""

from __future__ import annotations

import random
from typing import Any

import pytest

from calm.bench.compare import CompareError, compare, holm
from calm.bench.model import Workload
from tests.unit.bench.documents import document, simulated

PAIRS = 200


def runs(middle: float, *, succeeded: int = 5, count: int = 3) -> list[dict[str, Any]]:
    times = [middle * (1 + 0.002 * each) for each in range(5)]
    well = {"ttft_ms": times} if succeeded else {}
    return [{"requests": 5, "succeeded": succeeded, **well} for _ in range(count)]


def test_false_alarms_between_alike_are_at_most_one_in_twenty() -> None:
    chance = random.Random(20)
    found = [compare(simulated(chance), simulated(chance)) for _ in range(PAIRS)]
    changed = sum(any(each.verdict in ("regressed", "improved") for each in one.verdicts) for one in found)
    assert changed <= 0.05 * PAIRS


def test_a_tenth_slower_is_found_nine_times_in_ten() -> None:
    chance = random.Random(21)
    found = [compare(simulated(chance), simulated(chance, slower=1.1)) for _ in range(PAIRS)]
    assert sum(one.regressed for one in found) >= 0.9 * PAIRS
    assert not any(each.verdict == "improved" for one in found for each in one.verdicts)


@pytest.mark.parametrize(
    ("new", "verdict"), [(100.0, "unchanged"), (103.0, "unchanged"), (112.0, "regressed"), (88.0, "improved")]
)
def test_a_verdict_per_metric(new: float, verdict: str) -> None:
    found = compare(document(runs=jitter(100.0)), document(runs=jitter(new)))
    first = {each.metric: each for each in found.verdicts}["llm.ttft_ms"]
    assert first.verdict == verdict
    assert first.low is not None
    assert first.high is not None
    assert first.change is not None
    assert first.low <= first.change <= first.high
    assert found.regressed is (verdict == "regressed")


def jitter(middle: float, spread: float = 0.002) -> list[dict[str, Any]]:
    return [{"ttft_ms": [middle * (1 + spread * place)] * 5} for place in (-1, 0, 1)]


def test_a_change_that_may_be_chance_is_not_significant() -> None:
    found = compare(document(runs=jitter(100.0, 0.15)), document(runs=jitter(110.0, 0.15)))
    assert {each.metric: each.verdict for each in found.verdicts}["llm.ttft_ms"] == "not significant"


def test_more_tokens_a_second_are_better() -> None:
    def speeds(middle: float) -> dict[str, Any]:
        return document(runs=[{"output_tokens_per_s": [middle + place] * 5} for place in range(3)])

    assert compare(speeds(50), speeds(40)).regressed
    assert not compare(speeds(40), speeds(50)).regressed


def test_fewer_than_three_runs_give_no_verdict() -> None:
    found = compare(document(runs=runs(100, count=2)), document(runs=runs(900, count=3)))
    (first, *_) = found.verdicts
    assert (first.verdict, first.note) == ("not significant", "needs at least 3 runs on each side")
    assert any("2 and 3 runs" in each for each in found.warnings)


def test_a_server_that_answers_nothing_any_more_has_regressed() -> None:
    found = compare(document(runs=runs(100)), document(runs=runs(100, succeeded=0)))
    verdicts = {each.metric: each.verdict for each in found.verdicts}
    assert verdicts == {"llm.success": "regressed"}
    assert "time to first token was measured on one side only" in found.warnings


def test_figures_without_any_spread_are_compared_as_they_are() -> None:
    still = [{"ttft_ms": [100.0]}] * 3
    assert not compare(document(runs=still), document(runs=still)).regressed
    assert compare(document(runs=still), document(runs=[{"ttft_ms": [120.0]}] * 3)).regressed


def test_different_work_is_refused() -> None:
    other = document(runs=runs(100), workload=Workload(concurrency=8).described())
    with pytest.raises(CompareError, match="concurrency 1 and 8"):
        compare(document(runs=runs(100)), other)


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(CompareError, match="no metric in common"):
        compare(document(runs=[]), document(runs=runs(100)))


def test_another_machine_or_model_is_said() -> None:
    other = document(runs=runs(100), machine={"cpus": 4}, model={"id": "m", "quantization": "Q8"})
    found = compare(document(runs=runs(100)), other)
    assert any("machines differ (cpus: 8 and 4)" in each for each in found.warnings)
    assert any("models differ" in each and "quantization: Q4 and Q8" in each for each in found.warnings)


def test_the_settings_that_changed_are_listed() -> None:
    changed = {"digest": "e", "values": {"llm.max_retries": 5, "docker.redis.memory": "1G"}}
    found = compare(document(runs=runs(100)), document(runs=runs(120), settings=changed))
    assert [(each.path, each.old, each.new) for each in found.settings] == [
        ("docker.redis.memory", None, "1G"),
        ("llm.max_retries", 2, 5),
    ]
    assert found.to_json()["settings"][1] == {"path": "llm.max_retries", "old": 2, "new": 5}


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
