"""A schedule as a launchd property list of the user's agents.

Keys: launchd.plist(5). A start missed in sleep happens at wake; one missed while it was off is lost.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from calm.schedules.model import (
    DAYS,
    Always,
    At,
    Calendar,
    Clock,
    Daily,
    Every,
    Hourly,
    Monthly,
    Schedule,
    UnreadableError,
    UnsupportedError,
    Weekly,
    When,
    sensible,
)
from calm.schedules.place import Place

_SUNDAY_FIRST = ("Sun", *DAYS[:-1])  # launchd counts weekdays from Sunday, 0


def effective(schedule: Schedule, place: Place) -> tuple[Schedule, tuple[str, ...]]:  # noqa: ARG001 - as the others
    """What launchd will really do, and a sentence for each difference. Raises :class:`UnsupportedError`."""
    wanted = sensible(schedule)
    if isinstance(wanted.when, Calendar):
        raise UnsupportedError(
            f'launchd has no calendar expressions ("{wanted.when.expression}"); use daily, weekly or monthly'
        )
    if wanted.when == At(event="boot"):
        raise UnsupportedError("a user's agent of launchd sees no boot; use at: login")
    notes = []
    if wanted.timeout is not None:
        notes.append("launchd has no time limit, so the timeout does not hold there")
    if wanted.jitter:
        notes.append("launchd has no random delay, so the jitter does not hold there")
    if wanted.catch_up:
        notes.append(
            "launchd makes up for a run missed in sleep, not for one missed while the machine was off"
        )
    return replace(wanted, timeout=None, jitter=0, catch_up=False), tuple(notes)


def render(schedule: Schedule, place: Place) -> str:
    """The property list as XML. Raises :class:`UnsupportedError`."""
    schedule, _ = effective(schedule, place)
    values: dict[str, Any] = {
        "Label": schedule.unit,
        "ProgramArguments": list(schedule.command),
        "EnvironmentVariables": {"CALM_SCHEDULE": schedule.name, "CALM_ROOT": place.root},
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "Nice": 10,
        "Umask": 0o077,
        # What a run has started, LM Studio above all, outlives it.
        "AbandonProcessGroup": True,
        **_times(schedule.when),
    }
    return plistlib.dumps(values, sort_keys=True).decode()


def parse(text: str) -> Schedule:
    """The schedule that a property list makes. Raises :class:`UnreadableError`."""
    values = read(text)
    name = values.get("EnvironmentVariables", {}).get("CALM_SCHEDULE")
    if not name:
        raise UnreadableError("no property list with our mark")
    try:
        return Schedule(name=name, when=_when(values), command=tuple(values.get("ProgramArguments", ())))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableError(f"{name}: {error}") from error


def owner(text: str) -> str | None:
    """The root of the calm that wrote this list, or None for somebody else's."""
    try:
        root = read(text).get("EnvironmentVariables", {}).get("CALM_ROOT")
    except UnreadableError:
        return None
    return root if isinstance(root, str) else None


def read(text: str) -> Mapping[str, Any]:
    """The values of a property list. Raises :class:`UnreadableError`."""
    try:
        values = plistlib.loads(text.encode())
    except Exception as error:  # plistlib lets expat's and its own errors through
        raise UnreadableError(f"not a property list: {error}") from error
    if not isinstance(values, dict):
        raise UnreadableError("a property list of a job is a dictionary")
    return values


def _times(when: When) -> dict[str, Any]:
    match when:
        case Always():
            return {"KeepAlive": True, "RunAtLoad": True, "ThrottleInterval": 10}
        case At():
            return {"RunAtLoad": True}
        case Every(seconds=seconds):
            return {"StartInterval": seconds}
        case Hourly(minute=minute):
            return {"StartCalendarInterval": {"Minute": minute}}
        case Daily(clock=clock):
            return {"StartCalendarInterval": _clock(clock)}
        case Monthly(day=day, clock=clock):
            return {"StartCalendarInterval": {"Day": day, **_clock(clock)}}
        case Weekly(days=days, clock=clock):
            each = [{"Weekday": _SUNDAY_FIRST.index(day), **_clock(clock)} for day in days]
            return {"StartCalendarInterval": each if len(each) > 1 else each[0]}
        case _:
            raise UnsupportedError("launchd has no calendar expressions")


def _clock(clock: Clock) -> dict[str, int]:
    return {"Hour": clock.hour, "Minute": clock.minute}


def _when(values: Mapping[str, Any]) -> When:
    if values.get("KeepAlive"):
        return Always()
    if "StartInterval" in values:
        return Every(seconds=int(values["StartInterval"]))
    if "StartCalendarInterval" in values:
        times = values["StartCalendarInterval"]
        return _calendar(times if isinstance(times, list) else [times])
    if values.get("RunAtLoad"):
        return At(event="login")
    raise ValueError("no time")


def _calendar(times: list[dict[str, int]]) -> When:
    first = times[0]
    if "Hour" not in first:
        return Hourly(minute=first["Minute"])
    clock = Clock(hour=first["Hour"], minute=first["Minute"])
    if "Weekday" in first:
        named = {_SUNDAY_FIRST[time["Weekday"] % 7] for time in times}
        return Weekly(days=tuple(day for day in DAYS if day in named), clock=clock)
    return Monthly(day=first["Day"], clock=clock) if "Day" in first else Daily(clock=clock)
