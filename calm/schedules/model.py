"""What a schedule is, whichever scheduler runs it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

PREFIX = "calm-"
"""Begins the name of every unit and agent of ours. It proves nothing: a mark inside does."""

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class UnsupportedError(ValueError):
    """The scheduler cannot do what the schedule asks; the message is a plain sentence."""


class UnreadableError(ValueError):
    """A scheduler's entry is not a schedule as calm writes them."""


@dataclass(frozen=True, kw_only=True, order=True)
class Clock:
    """A time of day, on the host's own clock."""

    hour: int
    minute: int

    def __post_init__(self) -> None:
        if not (0 <= self.hour <= 23 and 0 <= self.minute <= 59):
            raise ValueError(f"{self} is no time of day")

    def __str__(self) -> str:
        return f"{self.hour:02}:{self.minute:02}"


@dataclass(frozen=True, kw_only=True)
class Daily:
    """Once a day."""

    clock: Clock


@dataclass(frozen=True, kw_only=True)
class Hourly:
    """Once an hour, at ``minute`` past."""

    minute: int = 0


@dataclass(frozen=True, kw_only=True)
class Weekly:
    """On these days (of :data:`DAYS`, in its order)."""

    days: tuple[str, ...]
    clock: Clock

    def __post_init__(self) -> None:
        if not self.days or self.days != tuple(day for day in DAYS if day in self.days):
            raise ValueError(f"days are some of {', '.join(DAYS)} in that order, not {self.days}")


@dataclass(frozen=True, kw_only=True)
class Monthly:
    """On one day of each month that has it (1 to 31)."""

    day: int
    clock: Clock


@dataclass(frozen=True, kw_only=True)
class Every:
    """Again and again, ``seconds`` apart."""

    seconds: int


@dataclass(frozen=True, kw_only=True)
class At:
    """When the machine boots, or when the user logs in."""

    event: Literal["boot", "login"]


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Any other times: the five fields of cron, or an expression of systemd.time(7) for systemd alone."""

    expression: str


@dataclass(frozen=True, kw_only=True)
class Always:
    """All the time: a service that is started again when it dies."""


When = Daily | Hourly | Weekly | Monthly | Every | At | Calendar | Always


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What runs when. ``timeout`` and ``jitter`` are whole seconds; a ``timeout`` of None is no limit.

    ``command`` is an argv, never a shell line. ``catch_up`` is whether a run that was missed while the
    machine was off is made up for; it means something for times of day alone.
    """

    name: str
    when: When
    command: tuple[str, ...]
    timeout: int | None = None
    jitter: int = 0
    catch_up: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no schedule's name: use a-z, 0-9 and -")
        if not self.command or any(_CONTROL.search(word) for word in self.command):
            raise ValueError(f"{self.name}: a command is at least one word, without control characters")

    @property
    def unit(self) -> str:
        """The name that schedulers know it by."""
        return PREFIX + self.name


def sensible(schedule: Schedule) -> Schedule:
    """The schedule without what its kind has no use for: a service has no timeout, for one."""
    if isinstance(schedule.when, Always):
        return replace(schedule, timeout=None, jitter=0, catch_up=False)
    return replace(schedule, catch_up=False) if isinstance(schedule.when, Every | At) else schedule


def described(when: When) -> str:
    """The times in plain English, for a person."""
    match when:
        case Daily(clock=clock):
            return f"daily at {clock}"
        case Hourly(minute=minute):
            return f"hourly, {minute} minutes past" if minute else "hourly"
        case Weekly(days=days, clock=clock):
            return f"{', '.join(days)} at {clock}"
        case Monthly(day=day, clock=clock):
            return f"monthly on day {day} at {clock}"
        case Every(seconds=seconds):
            return f"every {seconds} seconds"
        case At(event=event):
            return f"at {event}"
        case Calendar(expression=expression):
            return expression
        case Always():
            return "always"
