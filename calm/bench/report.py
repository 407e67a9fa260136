"""What a benchmark has found: the JSON document, the table, the verdict in plain words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from calm.bench.model import Limits, Measured, Sample, distribution
from calm.bench.run import Result

SCHEMA = 1
MACHINE = ("cpu_percent", "memory_percent", "disk_percent", "processes")


def document(result: Result, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a run; a part that was not measured is null. Times are milliseconds."""
    return {
        "schema": SCHEMA,
        "started_at": result.started_at,
        "mode": result.job.mode,
        "seconds": result.seconds,
        "fingerprint": dict(fingerprint),
        "llm": _llm(result.llm, result.job.limits) if result.llm else None,
        "api": _api(result.api) | {"chat": _api(result.chat) if result.chat else None}
        if result.api
        else None,
        "machine": _machine(result.machine) if result.machine is not None else None,
        "runs": _runs(result),
    }


def failures(document: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """By part that had failures: how many of how many requests."""
    api = document.get("api") or {}
    parts = {"LLM": document.get("llm"), "agent API": api or None, "chat": api.get("chat")}
    return {
        name: (part["requests"] - part["succeeded"], part["requests"])
        for name, part in parts.items()
        if part and part["requests"] > part["succeeded"]
    }


def _llm(measured: Measured, limits: Limits) -> dict[str, Any]:
    good, seconds = measured.good, math.fsum(measured.seconds)
    counted = {sample.counted for sample in good if sample.counted}
    tokens = sum(sample.tokens or 0 for sample in good)
    return {
        "requests": len(measured.samples),
        "succeeded": len(good),
        "failed": len(measured.samples) - len(good),
        "errors": measured.errors,
        "ttft_ms": distribution(sample.ttft_ms for sample in good),
        "ttfo_ms": distribution(sample.ttfo_ms for sample in good),
        "inter_token_ms": distribution(gap for sample in good for gap in sample.inter_token_ms),
        "inter_chunk_ms": distribution(gap for sample in good for gap in sample.gaps_ms),
        "latency_ms": distribution(sample.latency_ms for sample in good),
        "output_tokens_per_s": distribution(sample.tokens_per_s for sample in good),
        "late_ms": distribution(sample.late_ms for sample in good),
        "tokens": tokens if counted else None,
        "tokens_counted_by": "mixed" if len(counted) > 1 else next(iter(counted), None),
        "requests_per_s": _per(len(good), seconds),
        "total_output_tokens_per_s": _per(tokens, seconds) if counted else None,
        "goodput": _goodput(measured, limits, seconds) if limits else None,
        "server_stats": _server_stats(good) or _server_stats([measured.own] if measured.own else []),
        "warmup": {"requests": len(measured.warmup), "latency_ms": [_short(s) for s in measured.warmup]},
    }


def _short(sample: Sample) -> float | None:
    return None if sample.latency_ms is None else round(sample.latency_ms, 3)


def _per(count: int, seconds: float) -> float | None:
    return round(count / seconds, 3) if seconds > 0 else None


def _goodput(measured: Measured, limits: Limits, seconds: float) -> dict[str, Any]:
    """Requests that kept the limits: of all, also of those that failed."""
    met = sum(limits.met(sample) for sample in measured.samples)
    share = round(met / len(measured.samples), 4) if measured.samples else None
    asked = {key: value for key, value in vars(limits).items() if value is not None}
    return {"limits": asked, "requests": met, "share": share, "per_s": _per(met, seconds)}


def _server_stats(good: Sequence[Sample]) -> dict[str, Any] | None:
    """The server's own figures, as it calls them, beside ours."""
    keys = sorted({key for sample in good for key in sample.server_stats or ()})
    told = {key: distribution((sample.server_stats or {}).get(key) for sample in good) for key in keys}
    return told or None


def _api(measured: Measured) -> dict[str, Any]:
    good = measured.good
    return {
        "requests": len(measured.samples),
        "succeeded": len(good),
        "failed": len(measured.samples) - len(good),
        "errors": measured.errors,
        "latency_ms": distribution(sample.latency_ms for sample in good),
    }


def _machine(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: distribution(sample.get(name) for sample in samples) for name in MACHINE}


def _runs(result: Result) -> list[dict[str, Any]]:
    """Each run by itself, one figure per request: what a comparison needs."""
    parts = {"llm": result.llm, "api": result.api, "chat": result.chat}
    count = max((len(part.seconds) for part in parts.values() if part), default=0)
    return [
        {name: _run(part, number) if part else None for name, part in parts.items()}
        for number in range(count)
    ]


def _run(part: Measured, number: int) -> dict[str, Any]:
    samples = [sample for sample in part.samples if max(0, sample.run) == number]
    good = [sample for sample in samples if sample.well]
    thinks = any(sample.ttfo_ms != sample.ttft_ms for sample in good)
    figures = {
        "ttft_ms": [sample.ttft_ms for sample in good],
        "ttfo_ms": [sample.ttfo_ms for sample in good] if thinks else [],
        "inter_token_ms": [_mean(sample.inter_token_ms) for sample in good],
        "latency_ms": [sample.latency_ms for sample in good],
        "output_tokens_per_s": [sample.tokens_per_s for sample in good],
    }
    known = {
        key: [round(value, 3) for value in column if value is not None] for key, column in figures.items()
    }
    seconds = round(part.seconds[number], 3) if number < len(part.seconds) else None
    return {"seconds": seconds, "requests": len(samples), "succeeded": len(good)} | {
        key: column for key, column in known.items() if column
    }


def _mean(numbers: Sequence[float]) -> float | None:
    return math.fsum(numbers) / len(numbers) if numbers else None


_ROWS = (
    ("llm", "ttft_ms", "first token", "ms"),
    ("llm", "ttfo_ms", "first word after reasoning", "ms"),
    ("llm", "inter_token_ms", "between tokens", "ms"),
    ("llm", "latency_ms", "whole answer", "ms"),
    ("llm", "output_tokens_per_s", "output tokens", "/s"),
    ("llm", "late_ms", "sent late", "ms"),
    ("api", "latency_ms", "agent API health", "ms"),
    ("chat", "latency_ms", "chat through the API", "ms"),
    ("machine", "cpu_percent", "machine's CPU", "%"),
    ("machine", "memory_percent", "machine's memory", "%"),
    ("machine", "disk_percent", "disk in use", "%"),
    ("machine", "processes", "processes", ""),
)
_COLUMNS = ("n", "mean", "p50", "p90", "p99", "min", "max")


def rows(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The table's lines: name, unit, then n, mean, p50, p90, p99, min, max; what is unknown is a dash."""
    parts = {**document, "chat": (document.get("api") or {}).get("chat")}
    for part, key, name, unit in _ROWS:
        spread = (parts.get(part) or {}).get(key)
        if spread and spread["n"] and not _repeats(parts.get(part) or {}, key):
            yield name, unit, *(_figure(spread[column]) for column in _COLUMNS)


def _repeats(part: Mapping[str, Any], key: str) -> bool:
    """Whether a row would only say again what the one before says: a model that does not reason."""
    return key == "ttfo_ms" and part["ttfo_ms"] == part["ttft_ms"]


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def sentences(document: Mapping[str, Any]) -> Iterator[str]:
    """The verdict in plain words."""
    if llm := document.get("llm"):
        yield from _about_llm(llm)
    if api := document.get("api"):
        yield _about(api, "the agent API answered")
        if chat := api.get("chat"):
            yield _about(chat, "the chat through the agent API answered")
    if machine := document.get("machine"):
        cpu, memory = machine["cpu_percent"], machine["memory_percent"]
        if cpu["n"] and memory["n"]:
            yield f"The machine used {cpu['mean']:.0f} % of its CPU and {memory['mean']:.0f} % of its memory."


def _about_llm(llm: Mapping[str, Any]) -> Iterator[str]:
    yield _about(llm, "the language model answered")
    if llm["succeeded"] and llm["ttft_ms"]["n"]:
        speed, first = llm["output_tokens_per_s"], llm["ttft_ms"]
        then = f", and an answer came at {speed['p50']:.3g} tokens a second" if speed["n"] else ""
        yield f"Half of the first tokens came within {first['p50']:.4g} ms{then}."
    if llm["tokens_counted_by"] == "chunks":
        yield "The server does not count tokens: chunks were counted, and one may hold several tokens."
    if goodput := llm.get("goodput"):
        yield f"{goodput['requests']} of {llm['requests']} requests kept the limits."


def _about(part: Mapping[str, Any], who: str) -> str:
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(part["errors"].items()))
    return f"{part['succeeded']} of {part['requests']} times {who}{f'; failed: {told}' if told else ''}."
