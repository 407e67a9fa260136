"""`calm status` of a fleet: a row per host, from one command each."""

from __future__ import annotations

import pytest

from tests.fleet.machines import Fleet, counted

pytestmark = pytest.mark.host


def test_a_row_per_host_for_one_command_each(fleet: Fleet) -> None:
    rows: list[dict[str, object]] = []
    host = fleet.whole["gpu-1"]
    assert counted(host, lambda: rows.extend(fleet.rows("status", code=0).values())) <= 2
    assert [row["name"] for row in rows] == list(fleet.whole)
    well = {"postgres": "healthy", "redis": "healthy", "agent-api": "healthy"}
    assert all(row["services"] == well for row in rows)
    assert all(row["agent"] is None and row["pull"] is None for row in rows)


def test_a_host_that_is_down_has_its_row_too(fleet: Fleet) -> None:
    kept = dict(fleet.data)
    fleet.add("dead", "10.213.0.254", trusted=False)
    try:
        result = fleet.calm("status")
    finally:
        fleet.data = kept
        fleet.write()
    assert result.code == 3
    lines = result.out.splitlines()
    number = len(fleet.whole)
    told = [line.split()[:2] for line in lines[1 : number + 2]]
    assert told == [*([name, "converged"] for name in fleet.whole), ["dead", "unreachable"]]
    assert "dead: 10.213.0.254" in lines[number + 2]
