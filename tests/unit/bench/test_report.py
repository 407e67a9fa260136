"""Documents and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from calm.bench import report
from calm.bench.model import Limits, Measured, Sample
from calm.bench.run import Job, Result
from calm.bench.shown import document_lines


def good(run: int, ttft: float, *, ttfo: float | None = None) -> Sample:
    return Sample(
        run=run, at=0.0, ttft_ms=ttft, ttfo_ms=ttfo or ttft, latency_ms=10 * ttft, gaps_ms=(20.0, 20.0),
        inter_token_ms=(10.0, 10.0), tokens=5, counted="usage",
    )  # fmt: skip


BAD = Sample(run=1, at=0.1, kind="timeout", says="too late")


def document(*samples: Sample, limits: Limits | None = None, **parts: Any) -> dict[str, Any]:
    measured = Measured(samples=samples, seconds=(2.0, 2.0)) if samples else None
    job = Job(mode="quick", root=Path("/x"), limits=limits or Limits())
    whole = report.document(Result(job=job, started_at=1.0, llm=measured, **parts), {"workload": {}})
    return json.loads(json.dumps(whole))  # type: ignore[no-any-return]


def test_a_failure_is_in_no_distribution() -> None:
    llm = document(good(0, 100), good(1, 200), BAD)["llm"]
    assert (llm["requests"], llm["succeeded"], llm["failed"]) == (3, 2, 1)
    assert llm["errors"] == {"timeout": 1}
    assert llm["ttft_ms"] == {
        "n": 2, "mean": 150.0, "p50": 100.0, "p90": 200.0, "p99": None, "min": 100.0, "max": 200.0,
    }  # fmt: skip
    assert llm["requests_per_s"] == 0.5
    assert llm["total_output_tokens_per_s"] == 2.5


def test_all_failed_is_null_and_never_0() -> None:
    llm = document(BAD, BAD)["llm"]
    assert llm["succeeded"] == 0
    assert {llm[key]["mean"] for key in ("ttft_ms", "latency_ms", "output_tokens_per_s")} == {None}
    assert llm["tokens"] is None
    lines = [*document_lines(document(BAD, BAD))]
    assert lines == ["0 of 2 times the language model answered; failed: timeout 2."]


def test_what_was_not_measured_is_null() -> None:
    whole = document()
    assert (whole["llm"], whole["api"], whole["machine"], whole["runs"]) == (None, None, None, [])


def test_runs_are_kept_apart_for_comparisons() -> None:
    runs = document(good(0, 100), good(1, 200), BAD)["runs"]
    assert [run["llm"]["requests"] for run in runs] == [1, 2]
    assert [run["llm"]["ttft_ms"] for run in runs] == [[100.0], [200.0]]
    assert "ttfo_ms" not in runs[0]["llm"]
    assert runs[0]["api"] is None


def test_the_first_word_is_shown_for_models_that_reason() -> None:
    whole = document(good(0, 100, ttfo=900))
    assert whole["runs"][0]["llm"]["ttfo_ms"] == [900.0]
    assert any("first word after reasoning" in row[0] for row in report.rows(whole))
    assert not any("reasoning" in row[0] for row in report.rows(document(good(0, 100))))


def test_goodput_counts_against_all_requests() -> None:
    goodput = document(good(0, 100), good(1, 200), BAD, limits=Limits(ttft_ms=150))["llm"]["goodput"]
    assert goodput == {"limits": {"ttft_ms": 150}, "requests": 1, "share": 0.3333, "per_s": 0.25}


def test_the_servers_own_figures_come_from_an_extra_request_where_the_others_have_none() -> None:
    own = Sample(run=-1, at=0, latency_ms=1.0, server_stats={"tokens_per_second": 51.0})
    job = Job(mode="quick", root=Path("/x"))
    measured = Measured(samples=(good(0, 100),), seconds=(1.0,), own=own)
    whole = report.document(Result(job=job, started_at=1.0, llm=measured), {})
    assert whole["llm"]["server_stats"]["tokens_per_second"]["mean"] == 51.0


def test_api_chat_and_machine() -> None:
    health = Measured(samples=(Sample(run=0, at=0, latency_ms=2.0),), seconds=(1.0,))
    machine = ({"cpu_percent": 20.0, "memory_percent": 50.0, "disk_percent": None, "processes": 300},)
    whole = document(api=health, chat=health, machine=machine)
    assert whole["api"]["latency_ms"]["p50"] == 2.0
    assert whole["api"]["chat"]["succeeded"] == 1
    assert whole["machine"]["disk_percent"]["mean"] is None
    text = "\n".join(document_lines(whole))
    assert "1 of 1 times the agent API answered." in text
    assert "20 % of its CPU and 50 % of its memory" in text


def test_failures_are_named_by_part() -> None:
    dead = Measured(samples=(BAD,), seconds=(1.0,))
    assert report.failures(document(good(0, 1), BAD, api=dead)) == {"LLM": (1, 2), "agent API": (1, 1)}
    assert report.failures(document(good(0, 1))) == {}


def test_counted_chunks_are_labelled() -> None:
    sample = Sample(run=0, at=0, ttft_ms=1.0, ttfo_ms=1.0, latency_ms=2.0, tokens=3, counted="chunks")
    whole = document(sample)
    assert whole["llm"]["tokens_counted_by"] == "chunks"
    assert any("does not count tokens" in line for line in document_lines(whole))
