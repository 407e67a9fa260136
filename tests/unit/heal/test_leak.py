from __future__ import annotations

import pytest

from calm.heal import leak
from calm.heal.leak import Point
from tests.unit.heal.traces import MB, draw, harmless, leaking

_COUNT = 120


def _found(trace: tuple[Point, ...]) -> leak.Leak | None:
    return leak.find(trace, least_seconds=1800, least_per_hour=500_000)


def _share(kind: object, seed: int, count: int) -> float:
    traces = draw(seed, kind, count)  # type: ignore[arg-type]
    return sum(_found(trace) is not None for trace in traces) / count


def test_leaks_are_found() -> None:
    assert _share(leaking, 11, _COUNT) >= 0.95


def test_what_only_looks_like_a_leak_is_none() -> None:
    assert _share(harmless, 12, _COUNT) <= 0.01


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, 2, 20_261])
def test_recall_and_false_alarms_on_many_traces(seed: int) -> None:
    assert _share(leaking, seed, 500) >= 0.95
    assert _share(harmless, seed, 500) <= 0.01


def _straight(per_second: float, *, seconds: int = 1800, step: int = 10) -> tuple[Point, ...]:
    return tuple(Point(at=at, bytes=int(300 * MB + per_second * at)) for at in range(0, seconds + 1, step))


def test_the_slope_is_told_in_bytes_per_hour() -> None:
    found = _found(_straight(2 * MB))
    assert found is not None
    assert found.bytes_per_hour == pytest.approx(2 * MB * 3600)
    assert found.seconds == 1800


def test_a_compressed_window_of_two_megabytes_a_second() -> None:
    points = _straight(2 * MB, seconds=60, step=1)
    assert leak.find(points, least_seconds=30, least_per_hour=500_000) is not None


def test_too_short_a_window_says_nothing() -> None:
    assert _found(_straight(2 * MB, seconds=1700)) is None


def test_a_slope_that_nobody_minds_is_none() -> None:
    assert _found(_straight(100)) is None


def test_only_the_time_since_the_models_changed_counts() -> None:
    points = [
        Point(at=p.at, bytes=p.bytes, models=("a",) if p.at < 1000 else ("a", "b")) for p in _straight(2 * MB)
    ]
    assert _found(tuple(points)) is None


def test_a_moment_in_which_models_could_not_be_asked_for_changes_nothing() -> None:
    points = [Point(at=p.at, bytes=p.bytes, models=None if p.at == 900 else ()) for p in _straight(2 * MB)]
    assert _found(tuple(points)) is not None


def test_nothing_measured_is_no_leak() -> None:
    assert _found(()) is None
    assert _found(tuple(Point(at=at, bytes=None) for at in range(5000))) is None


@pytest.mark.parametrize(
    ("freedom", "table"), [(10, 4.587), (22, 3.792), (60, 3.460)], ids=["10", "22", "60"]
)
def test_students_t_as_in_the_tables(freedom: int, table: float) -> None:
    assert leak.student_t(0.999, freedom) == pytest.approx(table, rel=0.01)
