"""What a benchmark is made of: the workload, one measured request, and distributions."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

PROMPTS = (
    "안녕하세요, 오늘 기분이 어때요?",
    "파이썬으로 피보나치 수열을 계산하는 함수를 짧게 써 주세요.",
    "대한민국의 수도와 그 인구를 알려 주세요.",
    "건강한 아침 식사 메뉴 세 가지를 추천해 주세요.",
    "인공지능이 무엇인지 한 문장으로 설명해 주세요.",
)
LEAST_FOR_P99 = 100


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is asked, and how. Two runs are compared only if theirs are the same.

    ``requests`` is per run. Closed loop: ``concurrency`` callers ask one after the other. Open loop: requests
    begin at ``rate`` per second whatever the server does, at random moments (``poisson``, from ``seed``) or
    evenly (``constant``). ``timeout`` is seconds for one whole request.
    """

    prompts: tuple[str, ...] = PROMPTS
    requests: int = 5
    runs: int = 3
    warmup: int = 1
    concurrency: int = 1
    rate: float | None = None
    arrivals: str = "poisson"
    seed: int = 1
    temperature: float = 0.3
    max_tokens: int = 100
    timeout: float = 120.0
    health_requests: int = 5
    chat_requests: int = 1

    def described(self) -> dict[str, Any]:
        """The workload as a fingerprint has it: the prompts by number and digest, how often left out."""
        whole = asdict(self)
        for name in ("runs", "warmup", "prompts"):
            del whole[name]
        digest = hashlib.sha256(json.dumps(self.prompts, ensure_ascii=False).encode()).hexdigest()[:16]
        return whole | {"prompts": len(self.prompts), "prompts_digest": digest}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One request; ``at`` is when it began, in seconds since its run did. Other times are milliseconds.

    They count from when the request had been sent; in an open loop from when it was due, ``late_ms`` before
    that. ``gaps_ms`` are between chunks, ``inter_token_ms`` between tokens; ``counted`` says how tokens were
    counted. What was not measured is ``None``. ``kind`` is ``None`` for a success, else what went wrong.
    """

    run: int
    at: float
    late_ms: float | None = None
    kind: str | None = None
    says: str | None = None
    ttft_ms: float | None = None
    ttfo_ms: float | None = None
    latency_ms: float | None = None
    gaps_ms: tuple[float, ...] = ()
    tokens: int | None = None
    counted: str | None = None
    inter_token_ms: tuple[float, ...] = ()
    server_stats: Mapping[str, float] | None = None

    @property
    def well(self) -> bool:
        return self.kind is None

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens over the whole latency, as a caller feels it."""
        if not self.tokens or not self.latency_ms:
            return None
        return 1000 * self.tokens / self.latency_ms

    def to_json(self) -> dict[str, Any]:
        """The sample for the journal; nothing in it says what was asked or answered."""
        whole = {key: value for key, value in asdict(self).items() if value not in (None, ())}
        for key in ("gaps_ms", "inter_token_ms"):
            if key in whole:
                whole[key] = [round(value, 3) for value in whole[key]]
        return whole


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request has to keep to count as good, in milliseconds; ``None`` asks for nothing."""

    ttft_ms: float | None = None
    inter_token_ms: float | None = None
    latency_ms: float | None = None

    def met(self, sample: Sample) -> bool:
        """Whether a request has succeeded within all limits."""
        mean = sum(sample.inter_token_ms) / len(sample.inter_token_ms) if sample.inter_token_ms else None
        pairs = (
            (self.ttft_ms, sample.ttft_ms),
            (self.inter_token_ms, mean),
            (self.latency_ms, sample.latency_ms),
        )
        return sample.well and all(
            limit is None or (value is not None and value <= limit) for limit, value in pairs
        )

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The samples of one part over all runs, and how long each run took in seconds.

    ``own`` is one request outside of the figures, for which the server gave figures of its own.
    """

    samples: tuple[Sample, ...] = ()
    seconds: tuple[float, ...] = ()
    warmup: tuple[Sample, ...] = field(default=())
    own: Sample | None = None

    def plus(self, samples: Iterable[Sample], seconds: float) -> Measured:
        """These and one more run."""
        return replace(self, samples=(*self.samples, *samples), seconds=(*self.seconds, seconds))

    @property
    def good(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.well]

    @property
    def errors(self) -> dict[str, int]:
        """How often what went wrong."""
        return dict(Counter(sample.kind for sample in self.samples if sample.kind is not None))


def distribution(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """How values are spread; percentiles are nearest ranks, and p99 of fewer than 100 is nothing."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return {"n": 0} | dict.fromkeys(("mean", "p50", "p90", "p99", "min", "max"))
    return {
        "n": len(known),
        "mean": _rounded(math.fsum(known) / len(known)),
        "p50": _rounded(rank(known, 50)),
        "p90": _rounded(rank(known, 90)),
        "p99": _rounded(rank(known, 99)) if len(known) >= LEAST_FOR_P99 else None,
        "min": _rounded(known[0]),
        "max": _rounded(known[-1]),
    }


def rank(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in order: always one that was measured."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _rounded(value: float) -> float:
    return round(value, 3)
