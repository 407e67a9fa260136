"""Tell a memory leak from everything else that makes memory grow. Pure.

A leak is a straight rise: its slope over a window is positive by more than its margin of error (Student's t),
and neither a step, a warm-up that levels off nor a saw tooth explains the window as well. The rule with the
margin of error is that of guidellm's over-saturation detector; thresholds alone (memmon, monit) see a loaded
model as a leak.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import NormalDist, fmean, median

_BLOCKS = 24
_LEAST_BLOCKS = 12
_CONFIDENCE = 0.999


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one process tree held at one moment.

    ``bytes`` is USS plus swap, None where it could not be measured; ``models`` the loaded ones.
    """

    at: float
    bytes: int | None
    models: tuple[str, ...] | None = ()


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A confirmed rise: bytes per hour, its margin of error, and the window it was seen in."""

    bytes_per_hour: float
    margin_per_hour: float
    seconds: float
    points: int


@dataclass(frozen=True, kw_only=True)
class _Line:
    slope: float
    intercept: float
    error: float
    squares: float


def find(points: Sequence[Point], *, least_seconds: float, least_per_hour: float) -> Leak | None:
    """Return the leak that the newest points show, or None.

    ``points`` are oldest first. Only those since the set of loaded models last changed count, and they must
    span ``least_seconds``; a slope below ``least_per_hour`` bytes is nobody's trouble.
    """
    same = _since_models_changed(points)
    if len(same) < 2 * _LEAST_BLOCKS or same[-1][0] - same[0][0] < least_seconds:
        return None
    blocks = _blocks(same)
    if len(blocks) < _LEAST_BLOCKS:
        return None
    line = _line(blocks)
    margin = student_t(_CONFIDENCE, len(blocks) - 2) * line.error
    if line.slope - margin <= 0 or line.slope * 3600 < least_per_hour or _explained(blocks, line):
        return None
    return Leak(
        bytes_per_hour=line.slope * 3600,
        margin_per_hour=margin * 3600,
        seconds=same[-1][0] - same[0][0],
        points=len(same),
    )


def student_t(confidence: float, freedom: int) -> float:
    """The two-sided quantile of Student's t, by the expansion of Cornish and Fisher (good from 8 degrees)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    return z + first + second + third


def _since_models_changed(points: Sequence[Point]) -> list[tuple[float, int]]:
    kept: list[tuple[float, int]] = []
    models: tuple[str, ...] | None = None
    for point in reversed(points):
        if point.models is None or point.bytes is None:
            continue
        if models is not None and point.models != models:
            break
        models = point.models
        kept.append((point.at, point.bytes))
    return kept[::-1]


def _blocks(points: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """Medians of equal slices of time: they take out spikes, short saw teeth and correlated noise."""
    start, width = points[0][0], (points[-1][0] - points[0][0]) / _BLOCKS
    slices: dict[int, list[tuple[float, int]]] = {}
    for at, size in points:
        slices.setdefault(min(int((at - start) / width), _BLOCKS - 1), []).append((at, size))
    return [(fmean(at for at, _ in part), median(size for _, size in part)) for part in slices.values()]


def _line(blocks: Sequence[tuple[float, float]]) -> _Line:
    middle, level = fmean(at for at, _ in blocks), fmean(size for _, size in blocks)
    spread = sum((at - middle) ** 2 for at, _ in blocks)
    slope = sum((at - middle) * (size - level) for at, size in blocks) / spread
    intercept = level - slope * middle
    squares = sum((size - intercept - slope * at) ** 2 for at, size in blocks)
    error = math.sqrt(squares / (len(blocks) - 2) / spread)
    return _Line(slope=slope, intercept=intercept, error=error, squares=squares)


def _explained(blocks: Sequence[tuple[float, float]], line: _Line) -> bool:
    """Whether something harmless explains the rise."""
    sizes = [size for _, size in blocks]
    return _gives_back(sizes) or _one_step(sizes, line.squares) or _levels_off(blocks, line)


def _gives_back(sizes: Sequence[float]) -> bool:
    """A saw tooth: at some time a good part of the growth was handed back."""
    deepest = max(peak - size for peak, size in zip(accumulate(sizes, max), sizes, strict=True))
    return deepest > 0.5 * (fmean(sizes[-3:]) - fmean(sizes[:3]))


def _one_step(sizes: Sequence[float], squares: float) -> bool:
    """One or two steps between flat stretches fit better than the line does."""
    return min(_steps(sizes)) < squares


def _steps(sizes: Sequence[float]) -> Iterator[float]:
    count = len(sizes)
    for first in range(1, count):
        yield _around_mean(sizes[:first]) + _around_mean(sizes[first:])
    # A second step only beside a biggest jump: a fine enough staircase would fit any line.
    biggest = max(range(1, count), key=lambda index: sizes[index] - sizes[index - 1])
    for second in range(1, count):
        low, high = sorted((biggest, second))
        if low != high and (sizes[second] - sizes[second - 1]) > 0.25 * (sizes[-1] - sizes[0]):
            parts = (sizes[:low], sizes[low:high], sizes[high:])
            yield sum(_around_mean(part) for part in parts)


def _around_mean(sizes: Sequence[float]) -> float:
    level = fmean(sizes)
    return sum((size - level) ** 2 for size in sizes)


def _levels_off(blocks: Sequence[tuple[float, float]], line: _Line) -> bool:
    """The rise slows down: the last third clearly grows at less than half of the whole window's pace."""
    last = _line(blocks[-max(len(blocks) // 3, 4) :])
    return last.slope + last.error < 0.5 * line.slope or _curved(blocks, line)


def _curved(blocks: Sequence[tuple[float, float]], line: _Line) -> bool:
    """A curve that saturates fits much better than the straight line."""
    span = blocks[-1][0] - blocks[0][0]
    best = min(_saturating(blocks, span * share) for share in (0.1, 0.2, 0.3, 0.5))
    return best < 0.6 * line.squares and _rises_early(blocks)


def _saturating(blocks: Sequence[tuple[float, float]], time: float) -> float:
    start = blocks[0][0]
    bent = [(1 - math.exp(-(at - start) / time), size) for at, size in blocks]
    return _line(bent).squares


def _rises_early(blocks: Sequence[tuple[float, float]]) -> bool:
    sizes = [size for _, size in blocks]
    third = len(sizes) // 3
    rise = [fmean(part) for part in (sizes[:third], sizes[third:-third], sizes[-third:])]
    first, second = (after - before for before, after in pairwise(rise))
    return first > second
