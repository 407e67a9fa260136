"""Compares two benchmark documents: per metric a verdict that a test of significance stands behind. Pure.

What is compared are runs, not requests: requests of one run share its luck (a warm cache, a busy minute), and
to take them for independent finds differences that are none. A difference counts if it is both larger than
the threshold and significant: Welch's t test on the logarithms of the runs' means (latencies spread by
factors), Fisher's exact test on success rates, both held by Holm's correction to one false alarm in twenty
for the whole comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

ALPHA = 0.05
LEAST_RUNS = 3
THRESHOLD = 0.05

METRICS = {
    "llm.ttft_ms": ("time to first token", -1),
    "llm.ttfo_ms": ("time to first word after reasoning", -1),
    "llm.inter_token_ms": ("time between tokens", -1),
    "llm.latency_ms": ("latency of a whole answer", -1),
    "llm.output_tokens_per_s": ("output tokens per second", 1),
    "api.latency_ms": ("latency of the agent API", -1),
    "chat.latency_ms": ("latency of a chat through the API", -1),
}
"""What is compared, and whether more of it is better (1) or worse (-1)."""

RATES = {"llm": "success rate of the LLM", "api": "success rate of the API", "chat": "success rate of chats"}
IMPROVED, REGRESSED, UNCHANGED, NOT_SIGNIFICANT = "improved", "regressed", "unchanged", "not significant"


class CompareError(Exception):
    """The two cannot be compared; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One metric. ``change`` is new over old, less 1; ``low`` and ``high`` bound it with 95 % confidence.

    ``p`` is Holm's adjusted probability, ``effect`` Hedges' g (of rates: the difference). ``old`` and ``new``
    are geometric means of the runs' means, or rates.
    """

    metric: str
    name: str
    verdict: str
    old: float | None
    new: float | None
    change: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    effect: float | None = None
    runs: tuple[int, int] = (0, 0)
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that differs between the two."""

    path: str
    old: Any
    new: Any


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All verdicts, what makes them doubtful, and which settings changed in between."""

    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]
    settings: tuple[Setting, ...]
    threshold: float

    @property
    def regressed(self) -> bool:
        return any(each.verdict == REGRESSED for each in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, "command": "bench compare", "regressed": self.regressed} | asdict(self)


def compare(old: Mapping[str, Any], new: Mapping[str, Any], *, threshold: float = THRESHOLD) -> Comparison:
    """The comparison of two documents; raises ``CompareError`` if they did not measure the same work."""
    _same_workload(old, new)
    raw = [*_continuous(old, new), *_rates(old, new)]
    if not raw:
        raise CompareError("the two have no metric in common: one of them may have measured nothing")
    adjusted = holm([each.p for each in raw if each.p is not None])
    verdicts = []
    for each in raw:
        p = adjusted.pop(0) if each.p is not None else None
        verdicts.append(_judged(each, p, threshold))
    return Comparison(
        verdicts=tuple(verdicts),
        warnings=tuple(_warnings(old, new)),
        settings=tuple(changed_settings(old, new)),
        threshold=threshold,
    )


def values(document: Mapping[str, Any], metric: str) -> list[list[float]]:
    """The figures of a metric, run by run; runs without any are left out."""
    part, _, key = metric.partition(".")
    runs = [run.get(part) or {} for run in document.get("runs") or ()]
    return [
        known for run in runs if (known := [value for value in run.get(key) or () if value and value > 0])
    ]


def holm(probabilities: Sequence[float]) -> list[float]:
    """Holm's adjusted probabilities, in the given order."""
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    adjusted, highest = [0.0] * len(order), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, probabilities[index] * (len(order) - place)))
        adjusted[index] = highest
    return adjusted


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Setting]:
    """The settings that differ, by path."""
    before, after = _part(old, "settings", "values"), _part(new, "settings", "values")
    return [
        Setting(path=path, old=before.get(path), new=after.get(path))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


def _same_workload(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    before, after = _part(old, "workload"), _part(new, "workload")
    differ = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    if differ:
        told = ", ".join(f"{key} {before.get(key)} and {after.get(key)}" for key in differ)
        raise CompareError(f"the two did different work ({told}); measure again with the same options")


def _part(document: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    value: Any = document.get("fingerprint") or {}
    for key in path:
        value = (value or {}).get(key)
    return value if isinstance(value, Mapping) else {}


def _continuous(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Verdict]:
    pairs = ((metric, values(old, metric), values(new, metric)) for metric in METRICS)
    return [_welch(metric, before, after) for metric, before, after in pairs if before and after]


def _welch(metric: str, old: list[list[float]], new: list[list[float]]) -> Verdict:
    """Welch's test on the logarithms of the runs' means."""
    before, after = ([math.log(math.fsum(run) / len(run)) for run in runs] for runs in (old, new))
    shift = _mean(after) - _mean(before)
    verdict = Verdict(
        metric=metric,
        name=METRICS[metric][0],
        verdict=NOT_SIGNIFICANT,
        old=math.exp(_mean(before)),
        new=math.exp(_mean(after)),
        change=math.exp(shift) - 1,
        runs=(len(before), len(after)),
    )
    if min(verdict.runs) < LEAST_RUNS:
        return replace(verdict, note=f"needs at least {LEAST_RUNS} runs on each side")
    p, low, high = _tested(before, after)
    return replace(
        verdict, p=p, low=math.exp(low) - 1, high=math.exp(high) - 1, effect=_hedges(before, after)
    )


def _tested(before: list[float], after: list[float]) -> tuple[float, float, float]:
    """Probability and the bounds of the shift."""
    shift = _mean(after) - _mean(before)
    if _variance(before) + _variance(after) < 1e-18:
        return (0.0 if abs(shift) > 1e-9 else 1.0), shift, shift
    result = _stats().ttest_ind(after, before, equal_var=False)
    bounds = result.confidence_interval(0.95)
    return float(result.pvalue), float(bounds.low), float(bounds.high)


def _rates(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Verdict]:
    """Success rates, by requests: a failure is rare enough to count each."""
    out = []
    for part, name in RATES.items():
        before, after = _counts(old, part), _counts(new, part)
        if sum(before) and sum(after):
            out.append(_fisher(f"{part}.success", name, before, after))
    return out


def _counts(document: Mapping[str, Any], part: str) -> tuple[int, int]:
    runs = [run.get(part) or {} for run in document.get("runs") or ()]
    succeeded = sum(run.get("succeeded") or 0 for run in runs)
    return succeeded, sum(run.get("requests") or 0 for run in runs) - succeeded


def _fisher(metric: str, name: str, old: tuple[int, int], new: tuple[int, int]) -> Verdict:
    before, after = old[0] / sum(old), new[0] / sum(new)
    return Verdict(
        metric=metric,
        name=name,
        verdict=NOT_SIGNIFICANT,
        old=before,
        new=after,
        change=after / before - 1 if before else None,
        effect=after - before,
        p=float(_stats().fisher_exact([old, new]).pvalue),
    )


def _stats() -> Any:
    try:
        from scipy import stats  # type: ignore[import-untyped]
    except ImportError:
        raise CompareError("a comparison needs scipy: pip install 'calm-stack[bench]'") from None
    return stats


def _judged(verdict: Verdict, p: float | None, threshold: float) -> Verdict:
    if p is None:
        return verdict
    better = METRICS[verdict.metric][1] if verdict.metric in METRICS else 1
    change = verdict.change if verdict.change is not None else math.inf
    if p < ALPHA and abs(change) > threshold:
        return replace(verdict, p=p, verdict=IMPROVED if change * better > 0 else REGRESSED)
    return replace(verdict, p=p, verdict=UNCHANGED if _is_same(verdict, threshold) else NOT_SIGNIFICANT)


def _is_same(verdict: Verdict, threshold: float) -> bool:
    """Whether a change beyond the threshold can be ruled out, which is more than not having seen one."""
    if verdict.low is None or verdict.high is None:
        return verdict.old == verdict.new
    return verdict.low > -threshold and verdict.high < threshold


def _warnings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    out = []
    for part, sentence in (
        ("machine", "the machines differ"),
        ("model", "the models differ: this compares models, not settings"),
        ("server", "the servers differ"),
    ):
        before, after = _part(old, part), _part(new, part)
        differ = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
        if differ:
            told = ", ".join(f"{key}: {before.get(key)} and {after.get(key)}" for key in differ)
            out.append(f"{sentence} ({told})")
    out += [
        f"{name} was measured on one side only"
        for metric, (name, _) in METRICS.items()
        if bool(values(old, metric)) != bool(values(new, metric))
    ]
    few = [len(document.get("runs") or ()) for document in (old, new)]
    if min(few) < LEAST_RUNS:
        out.append(f"{few[0]} and {few[1]} runs: a verdict needs at least {LEAST_RUNS} of each")
    return out


def _hedges(before: list[float], after: list[float]) -> float | None:
    """The difference in standard deviations, corrected for few runs (Hedges 1981)."""
    count = len(before) + len(after)
    pooled = ((len(before) - 1) * _variance(before) + (len(after) - 1) * _variance(after)) / (count - 2)
    if pooled < 1e-18:
        return None
    return (_mean(after) - _mean(before)) / math.sqrt(pooled) * (1 - 3 / (4 * count - 9))


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _variance(numbers: Sequence[float]) -> float:
    mean = _mean(numbers)
    return math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1)
