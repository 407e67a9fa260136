"""Benchmark documents made of figures, for comparisons."""

from __future__ import annotations

import random
from typing import Any

from calm.bench.model import Workload


def document(*, runs: list[dict[str, Any]], **fingerprint: Any) -> dict[str, Any]:
    """A document with these runs of the LLM."""
    made_on = {
        "workload": Workload().described(),
        "model": {"id": "m", "quantization": "Q4"},
        "server": {"kind": "lmstudio"},
        "settings": {"digest": "d", "values": {"llm.max_retries": 2}},
        "machine": {"cpus": 8},
    } | fingerprint
    whole = [{"llm": {"requests": 5, "succeeded": 5} | run, "api": None, "chat": None} for run in runs]
    return {"schema": 1, "started_at": 1.0, "mode": "quick", "fingerprint": made_on, "runs": whole}


def simulated(
    chance: random.Random, *, slower: float = 1.0, runs: int = 5, noise: float = 0.05, drift: float = 0.02
) -> dict[str, Any]:
    """A measurement of a server whose times spread, and whose runs have luck of their own."""
    out = []
    for _ in range(runs):
        luck = chance.gauss(0, drift)

        def times(middle: float, luck: float = luck) -> list[float]:
            return [middle * slower * pow(2.718281828, luck + chance.gauss(0, noise)) for _ in range(5)]

        latency = times(2000)
        out.append(
            {
                "ttft_ms": times(300),
                "inter_token_ms": times(20),
                "latency_ms": latency,
                "output_tokens_per_s": [100_000 / each for each in latency],
            }
        )
    return document(runs=out)
