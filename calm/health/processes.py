"""The process table, read once per snapshot, and what CPU and memory some of its processes use.

A table of 200 processes costs psutil over 20 ms when every fact is read anew, so facts that hardly ever
change are remembered from one pass to the next. A remembered process is taken for the same only if psutil
says so: same number, same start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import psutil

from calm.health import procfs
from calm.health.model import ProcessKey
from calm.health.procfs import Stat

T = TypeVar("T")
Number = TypeVar("Number", int, float)

SETTLED = 30.0
"""Age in seconds before a process is remembered: a young one may still ``exec`` something else."""

SURE = 60.0
"""Seconds for which a process of no interest is taken for the same without a look, if its number is in use.

Opening its file in /proc is what a look at the table costs. A number is given anew only after all others have
been, and whoever acts on a process looks at its start again."""

STALE = 300.0
"""Seconds after which a remembered process is read anew all the same."""

MOVED = 2**20
"""Bytes by which a process's memory has to have moved before its page maps are read again, on Linux."""

MEASURED = 60.0
"""Seconds after which they are read again all the same."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """One row of the table. ``executable`` is ``None`` where this user may not see it."""

    pid: int
    parent: int
    created_at: float
    name: str
    executable: str | None = None
    arguments: tuple[str, ...] = ()

    @property
    def key(self) -> ProcessKey:
        """What tells this process from a later one with the same number."""
        return ProcessKey(self.pid, self.created_at)


class Moment(NamedTuple):
    """A point in time and the boot time as seen from it.

    On Linux a process's start is reckoned from the boot time, and that moves when the clock is set.
    """

    now: float
    booted_at: float

    @classmethod
    def present(cls) -> Moment:
        """This one."""
        return cls(time.time(), psutil.boot_time())


@dataclass(frozen=True, kw_only=True)
class Known:
    """A process and the handle to ask it further questions with.

    ``start`` is its start as Linux itself counts it, elsewhere ``None``: a fifth of the time of a handle.
    Until ``sure_until``, monotonic, one of no interest is taken for the same; ``seen`` is what Linux counted
    when it was last looked at, which is every time for an interesting one.
    """

    handle: psutil.Process
    process: Process
    read_at: Moment
    interesting: bool = False
    start: bytes | None = None
    sure_until: float = float("-inf")
    seen: Stat | None = None

    def fresh(self, now: Moment) -> bool:
        """Whether its facts need no new look."""
        settled = self.read_at.now - self.process.created_at > SETTLED
        return settled and self.read_at.booted_at == now.booted_at and 0 <= now.now - self.read_at.now < STALE

    def sure(self, now: Moment, clock: float) -> float:
        """Until when (monotonic) it may be taken for the same without a look, if it is ``clock`` now."""
        if self.interesting or not self.fresh(now):
            return float("-inf")
        return clock + min(SURE, STALE - (now.now - self.read_at.now))

    @property
    def running(self) -> bool:
        """Whether it has not ended since the table was read."""
        if (now := self.stat()) is not None:
            return not now.zombie
        try:
            return self.handle.is_running() and self.handle.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def stat(self) -> Stat | None:
        """What Linux counts of it now; ``None`` elsewhere, and if it has ended."""
        now = procfs.stat(self.process.pid) if self.start is not None else None
        return now if now is not None and now.start == self.start else None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory that would come free if the process ended, and what of it lies in swap (Linux only)."""

    uss_bytes: int | None
    swap_bytes: int | None


Table = Mapping[int, Known]


def read(known: Table, *, interesting: Callable[[Process], bool]) -> dict[int, Known]:
    """All processes by number. ``known`` is the last answer to the same question, or empty.

    Only of an interesting process are the arguments read, and its parent every time: the others'
    parents may be out of date, which the trees here can take (a parent has to be older than its child).
    """
    now, clock = Moment.present(), time.monotonic()
    table = {}
    for pid in psutil.pids():
        before = known.get(pid)
        if before is not None and clock < before.sure_until and before.read_at.booted_at == now.booted_at:
            table[pid] = before
            continue
        # A process that ends while it is looked at is no longer part of the table.
        with suppress(psutil.NoSuchProcess):
            table[pid] = _again(before, now, clock) or _anew(pid, before, interesting, now, clock)
    return table


def _again(before: Known | None, now: Moment, clock: float) -> Known | None:
    """The same process as before, if it can be told cheaply that it is and where it hangs."""
    if before is None or not before.fresh(now) or (seen := before.stat()) is None:
        return None
    if before.interesting and seen.parent != before.process.parent:
        return None
    return replace(before, sure_until=before.sure(now, clock), seen=seen)


def _anew(
    pid: int, before: Known | None, interesting: Callable[[Process], bool], now: Moment, clock: float
) -> Known:
    seen = procfs.stat(pid)
    row = _row(psutil.Process(pid), before, interesting, now)
    return replace(row, start=seen.start if seen else None, sure_until=row.sure(now, clock), seen=seen)


def _row(
    handle: psutil.Process, before: Known | None, interesting: Callable[[Process], bool], now: Moment
) -> Known:
    if before is not None and _holds(before, handle, now):
        return before
    process = _process(handle)
    asked = interesting(process)
    if asked:
        process = replace(process, arguments=tuple(_allowed(handle.cmdline) or ()))
    return Known(handle=handle, process=process, read_at=now, interesting=asked)


def _holds(before: Known, handle: psutil.Process, now: Moment) -> bool:
    if before.handle != handle or not before.fresh(now):
        return False
    return not before.interesting or before.process.parent == handle.ppid()


def _process(handle: psutil.Process) -> Process:
    with handle.oneshot():
        return Process(
            pid=handle.pid,
            parent=handle.ppid(),
            created_at=handle.create_time(),
            name=handle.name(),
            executable=_allowed(handle.exe) or None,
        )


def _allowed(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except (psutil.AccessDenied, psutil.ZombieProcess, OSError):
        return None


def alive(key: ProcessKey) -> bool:
    """Whether this very process still runs: the check to make right before any signal."""
    try:
        handle = psutil.Process(key.pid)
        return handle.create_time() == key.created_at and handle.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def lineage(table: Mapping[int, Process], process: Process) -> Iterator[Process]:
    """The ancestors of ``process``, the nearest first.

    A parent that is younger than its child is none: Windows keeps the number of a parent long gone, which
    somebody else may have by now.
    """
    seen = {process.pid}
    while True:
        parent = table.get(process.parent)
        if parent is None or parent.pid in seen or parent.created_at > process.created_at:
            return
        seen.add(parent.pid)
        yield parent
        process = parent


def cpu_seconds(rows: Iterable[Known]) -> dict[ProcessKey, float]:
    """CPU time used so far, user and system, without ended children. What cannot be read is left out."""
    times = {row.process.key: _cpu_seconds(row) for row in rows}
    return {key: seconds for key, seconds in times.items() if seconds is not None}


def _cpu_seconds(row: Known) -> float | None:
    if row.start is not None:
        return now.cpu_seconds if (now := row.stat()) is not None else None
    try:
        spent = row.handle.cpu_times()
    except (psutil.Error, OSError):
        return None
    return float(spent.user + spent.system)


def cpu_percent(before: float | None, after: float | None, *, span: float) -> float | None:
    """Percent of one core over ``span`` seconds, or ``None`` without two samples in the right order."""
    if before is None or after is None or span <= 0 or after < before:
        return None
    return round(100 * (after - before) / span, 2)


def memory(handle: psutil.Process) -> Memory:
    """What the process holds for itself alone. Reads its page maps: dear, so for watched processes only."""
    try:
        full = handle.memory_full_info()
    except (psutil.Error, OSError):
        return Memory(uss_bytes=None, swap_bytes=None)
    return Memory(uss_bytes=full.uss, swap_bytes=getattr(full, "swap", None))


@dataclass(frozen=True, kw_only=True)
class _Measured:
    memory: Memory
    seen: Stat
    at: float

    def holds(self, now: Stat) -> bool:
        """Whether it has hardly touched or returned memory since; its peers may have, so not for long."""
        moved = max(
            now.faulted_bytes - self.seen.faulted_bytes, abs(now.resident_bytes - self.seen.resident_bytes)
        )
        return moved < MOVED and time.monotonic() - self.at < MEASURED


class Memories:
    """What processes hold for themselves, from one look to the next.

    The kernel takes 1 ms to go through the page maps of a process, so on Linux they are read again only once
    the process has touched or returned a MiB, and after a minute, for what others shared with it may be its
    own by then.
    """

    def __init__(self, before: Memories | None = None) -> None:
        """``before`` is the last look's; it is left as it is."""
        self._before = before._now if before is not None else {}
        self._now: dict[ProcessKey, _Measured] = {}

    def of(self, row: Known) -> Memory:
        """The memory of one process, as :func:`memory` has it."""
        key, seen = row.process.key, row.seen
        if seen is None:
            return memory(row.handle)
        known = self._before.get(key)
        if known is None or not known.holds(seen):
            known = _Measured(memory=memory(row.handle), seen=seen, at=time.monotonic())
        self._now[key] = known
        return known.memory


def total(parts: Iterable[Number | None]) -> Number | None:
    """The sum, or ``None`` if a part is unknown or there is none: half a sum would look like a small one."""
    known = list(parts)
    numbers = [part for part in known if part is not None]
    return sum(numbers) if numbers and len(numbers) == len(known) else None
