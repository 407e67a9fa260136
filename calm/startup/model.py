"""What a start is made of: steps that need each other, and how each one ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Event
from typing import Any


class StepError(Exception):
    """A step failed. ``reason`` is a sentence for a person, ``log`` the last lines of what failed."""

    def __init__(self, reason: str, *, log: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.log = log


class Status(StrEnum):
    """How a step ended. ``running``: it was up before; ``begun``: started, and not waited for."""

    RUNNING = "running"
    STARTED = "started"
    BEGUN = "begun"
    STOPPED = "stopped"
    FAILED = "failed"
    SKIPPED = "skipped"


GOOD = frozenset({Status.RUNNING, Status.STARTED, Status.BEGUN, Status.STOPPED})


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """A moment on the monotonic clock until which waiting is worth it; :meth:`cut` ends it at once."""

    at: float
    _cut: Event = field(default_factory=Event, repr=False)

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment that many seconds from now."""
        return cls(at=time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then, 0 once it is past."""
        return 0.0 if self._cut.is_set() else max(0.0, self.at - time.monotonic())

    def cut(self) -> None:
        """Nobody waits any more: whoever asked has interrupted."""
        self._cut.set()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to start or stop.

    ``act`` does it, waits until it counts and says how it ended; it raises :class:`StepError`. ``undo`` is
    called if a step that this one needs fails after all, and this one had been started by this run. ``holds``
    raises :class:`StepError` if it does not work any more.
    """

    name: str
    act: Callable[[Deadline], Status]
    needs: tuple[str, ...] = ()
    holds: Callable[[], None] = lambda: None
    undo: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one step went; ``took_ms`` is its own time, waiting for others not included."""

    name: str
    status: Status
    took_ms: float = 0.0
    reason: str | None = None
    log: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether what needs it may go on."""
        return self.status in GOOD

    def to_json(self) -> Mapping[str, Any]:
        """The outcome as ``up --json`` prints it."""
        return {
            "step": self.name,
            "status": str(self.status),
            "took_ms": round(self.took_ms, 1),
            "reason": self.reason,
            "log": list(self.log),
        }
