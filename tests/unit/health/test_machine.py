"""This machine, measured."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from calm.health import machine


def test_its_figures_are_those_of_the_system(tmp_path: Path) -> None:
    seen = machine.look(tmp_path / "not" / "yet" / "there", None, None, processes=3)

    assert seen.cpu_count == psutil.cpu_count()
    assert seen.memory_bytes == psutil.virtual_memory().total
    assert seen.disk_free_bytes == pytest.approx(psutil.disk_usage(str(tmp_path)).free, rel=0.1)
    assert seen.processes == 3


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [((10.0, 100.0), (15.0, 110.0), 50.0), ((10.0, 100.0), (10.0, 100.0), None), (None, (1.0, 2.0), None)],
)
def test_cpu_is_of_all_cores_together(
    tmp_path: Path, before: machine.Times | None, after: machine.Times | None, percent: float | None
) -> None:
    assert machine.look(tmp_path, before, after, processes=None).cpu_percent == percent


def test_time_counts_forward() -> None:
    busy, everything = machine.times()

    assert 0 < busy < everything
