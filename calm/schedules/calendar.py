"""Times of day in cron's five fields and in systemd's calendar expressions, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterable

from calm.schedules.model import (
    DAYS,
    Calendar,
    Clock,
    Daily,
    Hourly,
    Monthly,
    UnsupportedError,
    Weekly,
    When,
)

_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_ITEM = re.compile(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?")
_CRON_DAYS = ("Sun", *DAYS)  # cron counts from Sunday, 0; 7 is Sunday again

_DAILY = re.compile(r"\*-\*-\* (\d\d):(\d\d):00")
_HOURLY = re.compile(r"\*-\*-\* \*:(\d\d):00")
_WEEKLY = re.compile(
    r"((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)(?:,(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun))*) " + _DAILY.pattern
)
_MONTHLY = re.compile(r"\*-\*-(\d\d) (\d\d):(\d\d):00")
_TRANSLATED = re.compile(r"(?:([A-Z]\S*) )?\*-(\S+)-(\S+) (\S+):(\S+):00")


def is_cron(expression: str) -> bool:
    """Whether these are five fields as cron(8) knows them: numbers, ``*``, ranges, lists and steps."""
    fields = expression.split()
    return len(fields) == 5 and all(map(_is_field, fields, _LIMITS))


def _is_field(field: str, limits: tuple[int, int]) -> bool:
    return all(_is_item(item, limits) for item in field.split(","))


def _is_item(item: str, limits: tuple[int, int]) -> bool:
    match = _ITEM.fullmatch(item)
    if match is None:
        return False
    first, last, step = (int(group) if group else None for group in match.groups())
    if step is not None and (step == 0 or (first is not None and last is None)):
        return False  # a step on a single number means different things to different crons
    return all(limits[0] <= number <= limits[1] for number in (first, last) if number is not None) and not (
        first is not None and last is not None and first > last
    )


def calendar(expression: str) -> When:
    """The times of an expression as a person writes it, in the one form that compares equal to itself."""
    expression = " ".join(expression.split())
    return from_cron(_canonical(expression)) if is_cron(expression) else from_systemd(expression)


def _canonical(fields: str) -> str:
    """The same fields with the weekdays spelt out: 7 and 0 are one day, and systemd knows no Sun..Wed."""
    *others, weekday = fields.split()
    days = sorted({day % 7 for item in weekday.split(",") for day in _spelt(item)})
    return " ".join([*others, "*" if weekday == "*" else ",".join(map(str, days))])


def _spelt(item: str) -> range:
    match = _ITEM.fullmatch(item)
    assert match is not None, "is_cron has been asked before"
    first, last = (0, 6) if match[1] is None else (int(match[1]), int(match[2] or match[1]))
    return range(first, last + 1, int(match[3] or 1))


def to_cron(when: When) -> str:
    """The five fields. Raises :class:`UnsupportedError` for what cron has no fields for."""
    match when:
        case Daily(clock=clock):
            return f"{clock.minute} {clock.hour} * * *"
        case Hourly(minute=minute):
            return f"{minute} * * * *"
        case Weekly(days=days, clock=clock):
            numbers = sorted(_CRON_DAYS.index(day) for day in days)
            return f"{clock.minute} {clock.hour} * * {','.join(map(str, numbers))}"
        case Monthly(day=day, clock=clock):
            return f"{clock.minute} {clock.hour} {day} * *"
        case Calendar(expression=expression) if is_cron(expression):
            return expression
        case Calendar(expression=expression):
            raise UnsupportedError(
                f'"{expression}" is not five fields as cron knows them; write it like "0 9 * * 1-5"'
            )
        case _:
            raise UnsupportedError("cron has no fields for this")


def from_cron(fields: str) -> When:
    """The times of five fields; what is no daily, hourly, weekly or monthly time is a :class:`Calendar`."""
    minute, hour, day, month, weekday = fields.split()
    if month != "*" or not minute.isdigit():
        return Calendar(expression=fields)
    if hour == day == weekday == "*":
        return Hourly(minute=int(minute))
    if not hour.isdigit():
        return Calendar(expression=fields)
    clock = Clock(hour=int(hour), minute=int(minute))
    if day == weekday == "*":
        return Daily(clock=clock)
    if weekday == "*" and day.isdigit():
        return Monthly(day=int(day), clock=clock)
    if day == "*" and re.fullmatch(r"\d(,\d)*", weekday):
        return Weekly(days=_ordered(_CRON_DAYS[int(number)] for number in weekday.split(",")), clock=clock)
    return Calendar(expression=fields)


def _ordered(days: Iterable[str]) -> tuple[str, ...]:
    named = set(days)
    return tuple(day for day in DAYS if day in named)


def to_systemd(when: When) -> str:
    """An ``OnCalendar`` value. Raises :class:`UnsupportedError` for what only one of the two can say."""
    match when:
        case Daily(clock=clock):
            return f"*-*-* {clock}:00"
        case Hourly(minute=minute):
            return f"*-*-* *:{minute:02}:00"
        case Weekly(days=days, clock=clock):
            return f"{','.join(days)} *-*-* {clock}:00"
        case Monthly(day=day, clock=clock):
            return f"*-*-{day:02} {clock}:00"
        case Calendar(expression=expression) if is_cron(expression):
            return _translated(expression)
        case Calendar(expression=expression):
            return expression
        case _:
            raise UnsupportedError("this is no time of day")


def from_systemd(expression: str) -> When:
    """The times of an ``OnCalendar`` value; expressions that came from cron's fields go back to them."""
    if match := _DAILY.fullmatch(expression):
        return Daily(clock=_clock(*match.groups()))
    if match := _HOURLY.fullmatch(expression):
        return Hourly(minute=int(match[1]))
    if match := _WEEKLY.fullmatch(expression):
        return Weekly(days=_ordered(match[1].split(",")), clock=_clock(match[2], match[3]))
    if match := _MONTHLY.fullmatch(expression):
        return Monthly(day=int(match[1]), clock=_clock(match[2], match[3]))
    return Calendar(expression=_as_cron(expression) or expression)


def _clock(hour: str, minute: str) -> Clock:
    return Clock(hour=int(hour), minute=int(minute))


def _translated(expression: str) -> str:
    minute, hour, day, month, weekday = expression.split()
    if day != "*" and weekday != "*":
        # cron(8) runs when either fits, systemd.time(7) when both do.
        raise UnsupportedError(
            f'"{expression}": cron means the day of the month OR the weekday, systemd can only say AND'
        )
    named = "" if weekday == "*" else _weekdays(weekday) + " "
    date = f"*-{_systemd_field(month, 1)}-{_systemd_field(day, 1)}"
    return f"{named}{date} {_systemd_field(hour, 0)}:{_systemd_field(minute, 0)}:00"


def _systemd_field(field: str, first: int) -> str:
    return ",".join(re.sub(r"^\*/", f"{first}/", item).replace("-", "..") for item in field.split(","))


def _weekdays(field: str) -> str:
    return ",".join(_ordered(_CRON_DAYS[int(day)] for day in field.split(",")))


def _as_cron(expression: str) -> str | None:
    """The cron fields whose translation this is, if any."""
    match = _TRANSLATED.fullmatch(expression)
    if match is None:
        return None
    weekday, month, day, hour, minute = match.groups()
    days = sorted(_CRON_DAYS.index(name) for name in (weekday or "").split(",") if name in DAYS)
    date = [_cron_field(day, 1), _cron_field(month, 1)]
    fields = " ".join([_cron_field(minute, 0), _cron_field(hour, 0), *date, ",".join(map(str, days)) or "*"])
    return fields if is_cron(fields) and _same(fields, expression) else None


def _cron_field(field: str, first: int) -> str:
    return ",".join(re.sub(rf"^{first}/", "*/", item).replace("..", "-") for item in field.split(","))


def _same(fields: str, expression: str) -> bool:
    try:
        return _translated(fields) == expression
    except UnsupportedError:
        return False
