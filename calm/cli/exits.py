"""Exit codes: the one enum, and the one place that says which of several wins."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """How a command ended. See the table in ``docs/reference/exit-codes.md``."""

    OK = 0
    FAILED = 1
    PENDING = 2
    UNREACHABLE = 3
    INVALID = 4
    UNHEALTHY = 5
    REGRESSED = 6
    QUARANTINED = 7
    USAGE = 64
    INTERRUPTED = 130


_WORST_FIRST = (
    Exit.INTERRUPTED,
    Exit.USAGE,
    Exit.INVALID,
    Exit.FAILED,
    Exit.UNREACHABLE,
    Exit.UNHEALTHY,
    Exit.QUARANTINED,
    Exit.REGRESSED,
    Exit.PENDING,
    Exit.OK,
)


def worst(codes: Iterable[Exit]) -> Exit:
    """The code that stands for several at once; ``OK`` for none."""
    return min(codes, key=_WORST_FIRST.index, default=Exit.OK)
