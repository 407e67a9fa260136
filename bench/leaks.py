"""How well the leak detector tells leaks from what only looks like them: ``python -m bench.leaks``.

Prints recall and false alarms on generated traces of six hours, for the seed that the detector was built
against and for one held out.
"""

from __future__ import annotations

from calm.heal import leak
from tests.unit.heal.traces import draw, harmless, leaking

_COUNT = 400
_SEEDS = {"built against": 1, "held out": 20_261}


def found(seed: int, kind: object, count: int = _COUNT) -> float:
    """The share of ``count`` traces of ``kind`` in which the detector sees a leak."""
    traces = draw(seed, kind, count)  # type: ignore[arg-type]
    hits = [leak.find(trace, least_seconds=1800, least_per_hour=500_000) is not None for trace in traces]
    return sum(hits) / len(hits)


def main() -> None:
    """Print one row per seed."""
    print(f"{_COUNT} traces with a leak of 1-500 MB/h, {_COUNT} without, six hours each, one point a minute")
    for name, seed in _SEEDS.items():
        print(f"seed {seed:>6} ({name}): recall {found(seed, leaking):.3f}, "
              f"false alarms {found(seed, harmless):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
