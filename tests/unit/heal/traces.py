"""Generated memory traces: what leaks, and what only looks like it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

from calm.heal.leak import Point

MB = 1_000_000
_STEP = 60.0
_HOURS = 6.0
_COUNT = int(_HOURS * 3600 / _STEP)

Shape = Callable[[Random], Callable[[float], float]]
"""Draws a shape: hours since the start to megabytes above the base."""


def leaking(random: Random) -> tuple[Point, ...]:
    """A leak of 1 to 500 MB/h (log-uniform) under noise, now and then with gaps or after a model load."""
    rate = math.exp(random.uniform(0, math.log(500)))
    points = _trace(
        random, lambda hours: rate * hours, noise=random.uniform(0.2, 2) + rate * random.uniform(0, 0.5)
    )
    return _with_gaps(random, points) if random.random() < 0.3 else points


def harmless(random: Random) -> tuple[Point, ...]:
    """One of: steady, a load step, an unload step, saw tooth, warm-up, steady with gaps, a cache filled."""
    return random.choice((_steady, _models, _saw, _warm_up, _gaps, _cache))(random)


def draw(seed: int, kind: Callable[[Random], tuple[Point, ...]], count: int) -> Iterator[tuple[Point, ...]]:
    random = Random(seed)
    for _ in range(count):
        yield kind(random)


def _trace(
    random: Random, shape: Callable[[float], float], *, noise: float, models: tuple[str, ...] = ("a",)
) -> tuple[Point, ...]:
    base, drift, memory = random.uniform(300, 1500), 0.0, random.uniform(0, 0.8)
    points = []
    for index in range(_COUNT):
        drift = memory * drift + math.sqrt(1 - memory**2) * random.gauss(0, noise)
        spike = random.uniform(50, 300) if random.random() < 0.01 else 0
        size = max(base + shape(index * _STEP / 3600) + drift + spike, 50)
        points.append(Point(at=index * _STEP, bytes=int(size * MB), models=models))
    return tuple(points)


def _steady(random: Random) -> tuple[Point, ...]:
    return _trace(random, lambda _: 0, noise=random.uniform(0.2, 40))


def _cache(random: Random) -> tuple[Point, ...]:
    """A step that no model explains: a cache that was filled once."""
    at, size = random.uniform(0.5, _HOURS - 0.5), random.uniform(20, 800)
    return _trace(random, lambda hours: size * (hours > at), noise=random.uniform(0.2, 20))


def _models(random: Random) -> tuple[Point, ...]:
    at, size = random.uniform(0.5, _HOURS - 0.5), random.choice((-1, 1)) * random.uniform(500, 8000)
    points = _trace(random, lambda hours: size * (hours > at), noise=random.uniform(0.5, 20))
    loaded = ("a", "b") if size > 0 else ()
    late = [Point(at=p.at, bytes=p.bytes, models=loaded) for p in points if p.at / 3600 > at]
    return (*points[: len(points) - len(late)], *late)


def _saw(random: Random) -> tuple[Point, ...]:
    period, size, phase = random.uniform(0.05, _HOURS / 3), random.uniform(20, 500), random.random()
    return _trace(random, lambda h: size * ((h / period + phase) % 1), noise=random.uniform(0.2, 10))


def _warm_up(random: Random) -> tuple[Point, ...]:
    time, size = random.uniform(0.1, 1.5), random.uniform(50, 1500)
    return _trace(random, lambda h: size * (1 - math.exp(-h / time)), noise=random.uniform(0.2, 10))


def _gaps(random: Random) -> tuple[Point, ...]:
    return _with_gaps(random, _steady(random))


def _with_gaps(random: Random, points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Stretches missing (a laptop asleep) and single points that could not be measured."""
    start = random.randrange(len(points) // 2)
    end = start + random.randrange(10, len(points) // 3)
    kept = points[:start] + points[end:]
    return tuple(Point(at=p.at, bytes=None, models=p.models) if random.random() < 0.03 else p for p in kept)
