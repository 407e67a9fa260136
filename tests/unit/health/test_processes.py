"""The process table of this very machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from calm.health import processes
from calm.health.model import ProcessKey
from calm.health.processes import Moment, Process, cpu_percent, lineage, total


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    with subprocess.Popen([sys.executable, "-c", "input()", "LM Studio"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def everything(process: Process) -> bool:
    """Every process is of interest."""
    return bool(process)


def nothing(process: Process) -> bool:
    """None is."""
    return not process


def test_the_table_has_this_process_and_its_child(child: subprocess.Popen[bytes]) -> None:
    table = processes.read({}, interesting=everything)

    row = table[child.pid].process
    assert (row.parent, row.arguments[-1]) == (os.getpid(), "LM Studio")
    assert row.executable == os.path.realpath(sys.executable)
    assert os.getpid() in [each.pid for each in lineage({p: k.process for p, k in table.items()}, row)]


def test_arguments_are_read_of_the_interesting_alone(child: subprocess.Popen[bytes]) -> None:
    assert processes.read({}, interesting=nothing)[child.pid].process.arguments == ()


def test_what_is_remembered_is_used_again_but_not_for_another_process() -> None:
    first = processes.read({}, interesting=nothing)
    old = next(row for row in first.values() if row.fresh(Moment.present()))
    mistaken = processes.Known(handle=psutil.Process(), process=old.process, read_at=old.read_at)

    again = processes.read({old.process.pid: old}, interesting=nothing)
    corrected = processes.read({old.process.pid: mistaken}, interesting=nothing)

    assert again[old.process.pid] is old
    assert corrected[old.process.pid] is not mistaken
    assert corrected[old.process.pid].process.key == old.process.key


def test_a_young_process_is_not_remembered_since_it_may_exec(child: subprocess.Popen[bytes]) -> None:
    row = processes.read({}, interesting=nothing)[child.pid]

    assert not row.fresh(Moment.present())


def test_nothing_is_remembered_across_a_clock_that_was_set() -> None:
    table = processes.read({}, interesting=nothing)
    now = Moment.present()

    assert any(row.fresh(now) for row in table.values())
    assert not any(row.fresh(Moment(now.now, now.booted_at + 3600)) for row in table.values())


@pytest.mark.parametrize(
    ("age", "read_ago", "interesting", "sure"),
    [
        (3600, 0, False, processes.SURE),
        (3600, processes.STALE - 10, False, 10),
        (3600, processes.STALE + 1, False, None),
        (10, 0, False, None),
        (3600, 0, True, None),
    ],
    ids=["settled", "nearly stale", "stale", "young", "interesting"],
)
def test_how_long_a_process_is_taken_for_the_same(
    age: float, read_ago: float, interesting: bool, sure: float | None
) -> None:
    now = Moment(now=1e9, booted_at=5e8)
    read_at = now._replace(now=now.now - read_ago)
    process = Process(pid=1, parent=0, created_at=read_at.now - age, name="init")
    row = processes.Known(handle=psutil.Process(), process=process, read_at=read_at, interesting=interesting)

    assert row.sure(now, 100.0) == (float("-inf") if sure is None else 100.0 + sure)


def test_alive_is_this_very_process(child: subprocess.Popen[bytes]) -> None:
    key = ProcessKey(child.pid, psutil.Process(child.pid).create_time())

    assert processes.alive(key)
    assert not processes.alive(ProcessKey(child.pid, key.created_at - 1))
    child.kill()
    child.wait()
    assert not processes.alive(key)


def test_cpu_of_a_spinning_process_is_about_one_core() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        try:
            row = processes.read({}, interesting=nothing)[spinning.pid]
            before, began = processes.cpu_seconds([row]), time.monotonic()
            time.sleep(0.5)
            after, span = processes.cpu_seconds([row]), time.monotonic() - began
        finally:
            spinning.kill()

    used = cpu_percent(before[row.process.key], after[row.process.key], span=span)
    assert used is not None
    assert 20 < used < 130


@pytest.mark.parametrize(
    ("before", "after", "span", "percent"),
    [(1.0, 3.0, 1.0, 200.0), (None, 3.0, 1.0, None), (3.0, 1.0, 1.0, None), (1.0, 3.0, 0.0, None)],
)
def test_percent_of_one_core(
    before: float | None, after: float | None, span: float, percent: float | None
) -> None:
    assert cpu_percent(before, after, span=span) == percent


@pytest.mark.parametrize(("parts", "whole"), [([1, 2], 3), ([1, None], None), ([], None)])
def test_half_a_sum_is_none(parts: list[int | None], whole: int | None) -> None:
    assert total(parts) == whole


def test_memory_of_this_process() -> None:
    used = processes.memory(psutil.Process())

    assert used.uss_bytes is not None
    assert used.uss_bytes > 1_000_000


def test_lineage_ends_where_parents_go_round() -> None:
    ring = {pid: Process(pid=pid, parent=1 - pid, created_at=1.0, name="x") for pid in (0, 1)}

    assert [each.pid for each in lineage(ring, ring[0])] == [1]
