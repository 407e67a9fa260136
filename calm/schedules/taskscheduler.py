"""A schedule as a task of Windows' Task Scheduler, in the XML that ``schtasks /Create /XML`` takes.

Elements, their order and defaults: Task Scheduler schema, [MS-TSCH] 2.5. Task Scheduler adds elements of its
own to what it stores, so a task that is read back is compared as a :class:`Schedule`, never as text.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal
from xml.etree import ElementTree as Xml

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

FOLDER = "\\calm\\"
"""The folder of our tasks."""

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
_IN = f"{{{NAMESPACE}}}"

_DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
# Any day in the past does; only its time of day counts.
_FIRST_DAY = "2026-01-01"
_REVIVE_SECONDS = 300
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_LONGEST_EVERY = 31 * 86400


def effective(schedule: Schedule, place: Place) -> tuple[Schedule, tuple[str, ...]]:  # noqa: ARG001 - as the others
    """What Task Scheduler will really do. Raises :class:`UnsupportedError`."""
    wanted = sensible(schedule)
    match wanted.when:
        case Calendar(expression=expression):
            raise UnsupportedError(
                f'Task Scheduler has no calendar expressions ("{expression}"); use daily, weekly or monthly'
            )
        case At(event="boot"):
            raise UnsupportedError("a task of the logged-in user sees no boot; use at: login")
        case Every(seconds=seconds) if seconds % 60 or not 60 <= seconds <= _LONGEST_EVERY:
            raise UnsupportedError(
                f"Task Scheduler repeats in whole minutes, at most 31 days apart, not every {seconds} s"
            )
        case Every(seconds=3600):
            wanted = replace(wanted, when=Hourly())
    if isinstance(wanted.when, At) and wanted.jitter:
        return replace(wanted, jitter=0), (
            "Task Scheduler has no random delay at login, so the jitter does not hold",
        )
    return wanted, ()


def render(schedule: Schedule, place: Place) -> str:
    """The task's XML. Write it with :func:`encoded`. Raises :class:`UnsupportedError`."""
    schedule, _ = effective(schedule, place)
    task = Xml.Element("Task", {"version": "1.2", "xmlns": NAMESPACE})
    about = Xml.SubElement(task, "RegistrationInfo")
    _texts(
        about, Source=f"calm {place.root}", Description=f"calm: {schedule.name}", URI=FOLDER + schedule.name
    )
    _trigger(Xml.SubElement(task, "Triggers"), schedule, place)
    _principal(Xml.SubElement(task, "Principals"), place)
    _settings(Xml.SubElement(task, "Settings"), schedule)
    actions = Xml.SubElement(task, "Actions", {"Context": "Author"})
    program, *words = schedule.command
    arguments = {"Arguments": subprocess.list2cmdline(words)} if words else {}
    _texts(Xml.SubElement(actions, "Exec"), Command=program, **arguments)
    Xml.indent(task, " ")
    return '<?xml version="1.0" encoding="UTF-16"?>\n' + Xml.tostring(task, encoding="unicode") + "\n"


def encoded(text: str) -> bytes:
    """UTF-16, little-endian, with its mark: the one encoding that every schtasks takes."""
    return b"\xff\xfe" + text.replace("\n", "\r\n").encode("utf-16-le")


def parse(text: str) -> Schedule:
    """The schedule that a task's XML makes. Raises :class:`UnreadableError`.

    Lenient as to the text around it: ``schtasks /Query /XML`` says UTF-16 whatever it writes.
    """
    task = _task(text)
    name = (_text(task, "RegistrationInfo/URI") or "").rpartition("\\")[2]
    if owner(text) is None:
        raise UnreadableError("no task with our mark")
    try:
        return Schedule(
            name=name,
            when=_when(task),
            command=_command(task),
            timeout=_seconds(_text(task, "Settings/ExecutionTimeLimit") or "P3D") or None,
            jitter=_seconds(_text(task, "Triggers/*/RandomDelay") or "PT0S"),
            catch_up=_text(task, "Settings/StartWhenAvailable") == "true",
        )
    except ValueError as error:
        raise UnreadableError(f"{name}: {error}") from error


def owner(text: str) -> str | None:
    """The root of the calm that wrote this task, or None for somebody else's."""
    try:
        source = _text(_task(text), "RegistrationInfo/Source") or ""
    except UnreadableError:
        return None
    return source.removeprefix("calm ") if source.startswith("calm ") else None


def is_enabled(text: str) -> bool:
    """Whether the task and its trigger are on."""
    task = _task(text)
    return "false" not in (_text(task, "Settings/Enabled"), _text(task, "Triggers/*/Enabled"))


def _texts(parent: Xml.Element, **values: str) -> None:
    for name, value in values.items():
        Xml.SubElement(parent, name).text = value


def _trigger(triggers: Xml.Element, schedule: Schedule, place: Place) -> None:
    match schedule.when:
        case Always() | At():
            trigger = Xml.SubElement(triggers, "LogonTrigger")
            if isinstance(schedule.when, Always):
                _repetition(trigger, _REVIVE_SECONDS)  # IgnoreNew makes it a check that revives
            _texts(trigger, Enabled="true", **({"UserId": place.user} if place.user else {}), Delay="PT30S")
        case Every(seconds=seconds):
            _repeated(triggers, schedule, seconds, "00:00:00")
        case Hourly(minute=minute):
            _repeated(triggers, schedule, 3600, f"00:{minute:02}:00")
        case Daily() | Weekly() | Monthly():
            _calendar_trigger(triggers, schedule, schedule.when)
        case _:
            raise UnsupportedError("Task Scheduler has no calendar expressions")


def _repeated(triggers: Xml.Element, schedule: Schedule, seconds: int, start: str) -> None:
    trigger = Xml.SubElement(triggers, "TimeTrigger")
    _repetition(trigger, seconds)
    _start(trigger, start, schedule)


def _repetition(trigger: Xml.Element, seconds: int) -> None:
    # Without a Duration it goes on for ever.
    _texts(Xml.SubElement(trigger, "Repetition"), Interval=_duration(seconds), StopAtDurationEnd="false")


def _start(trigger: Xml.Element, time: str, schedule: Schedule) -> None:
    jitter = {"RandomDelay": _duration(schedule.jitter)} if schedule.jitter else {}
    _texts(trigger, StartBoundary=f"{_FIRST_DAY}T{time}", Enabled="true", **jitter)


def _calendar_trigger(triggers: Xml.Element, schedule: Schedule, when: Daily | Weekly | Monthly) -> None:
    trigger = Xml.SubElement(triggers, "CalendarTrigger")
    _start(trigger, f"{when.clock}:00", schedule)
    match when:
        case Daily():
            _texts(Xml.SubElement(trigger, "ScheduleByDay"), DaysInterval="1")
        case Weekly(days=days):
            week = Xml.SubElement(trigger, "ScheduleByWeek")
            _marks(Xml.SubElement(week, "DaysOfWeek"), (_DAY_NAMES[DAYS.index(day)] for day in days))
            _texts(week, WeeksInterval="1")
        case Monthly(day=day):
            month = Xml.SubElement(trigger, "ScheduleByMonth")
            _texts(Xml.SubElement(month, "DaysOfMonth"), Day=str(day))
            _marks(Xml.SubElement(month, "Months"), iter(_MONTHS))


def _marks(parent: Xml.Element, names: Iterator[str]) -> None:
    for name in names:
        Xml.SubElement(parent, name)


def _principal(principals: Xml.Element, place: Place) -> None:
    principal = Xml.SubElement(principals, "Principal", {"id": "Author"})
    user = {"UserId": place.user} if place.user else {}
    _texts(principal, **user, LogonType="InteractiveToken", RunLevel="LeastPrivilege")


def _settings(settings: Xml.Element, schedule: Schedule) -> None:
    if isinstance(schedule.when, Always):
        _texts(Xml.SubElement(settings, "RestartOnFailure"), Interval="PT1M", Count="255")
    _texts(
        settings,
        MultipleInstancesPolicy="IgnoreNew",
        DisallowStartIfOnBatteries="false",
        StopIfGoingOnBatteries="false",
        StartWhenAvailable="true" if schedule.catch_up else "false",
        Enabled="true",
        Hidden="true",
        ExecutionTimeLimit=_duration(schedule.timeout or 0),  # PT0S is no limit
        Priority="7",  # below normal, for processor and disk
    )


def _duration(seconds: int) -> str:
    return f"PT{seconds // 60}M" if seconds and seconds % 60 == 0 else f"PT{seconds}S"


def _seconds(duration: str) -> int:
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f'"{duration}" is no duration')
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _task(text: str) -> Xml.Element:
    start = text.find("<Task")
    if start < 0:
        raise UnreadableError("no task in this text")
    try:
        return Xml.fromstring(text[start:].replace("\x00", "").strip())
    except Xml.ParseError as error:
        raise UnreadableError(f"the task is no XML: {error}") from error


def _find(task: Xml.Element, path: str) -> Xml.Element | None:
    return task.find("/".join(part if part == "*" else _IN + part for part in path.split("/")))


def _text(task: Xml.Element, path: str) -> str | None:
    found = _find(task, path)
    return None if found is None else (found.text or "").strip()


def _when(task: Xml.Element) -> When:
    triggers = _find(task, "Triggers")
    if triggers is None or len(triggers) != 1:
        raise ValueError("a task of ours has one trigger")
    kind = triggers[0].tag.removeprefix(_IN)
    if kind == "LogonTrigger":
        return Always() if _find(task, "Triggers/LogonTrigger/Repetition") is not None else At(event="login")
    start = (_text(task, f"Triggers/{kind}/StartBoundary") or "").partition("T")[2]
    hour, minute = (int(part) for part in start.split(":")[:2])
    if kind == "TimeTrigger":
        interval = _seconds(_text(task, "Triggers/TimeTrigger/Repetition/Interval") or "")
        return Hourly(minute=minute) if interval == 3600 else Every(seconds=interval)
    return _calendar(task, Clock(hour=hour, minute=minute))


def _calendar(task: Xml.Element, clock: Clock) -> Daily | Weekly | Monthly:
    if (week := _find(task, "Triggers/CalendarTrigger/ScheduleByWeek/DaysOfWeek")) is not None:
        named = {mark.tag.removeprefix(_IN) for mark in week}
        return Weekly(
            days=tuple(day for day, name in zip(DAYS, _DAY_NAMES, strict=True) if name in named), clock=clock
        )
    day: str | Literal[""] | None = _text(task, "Triggers/CalendarTrigger/ScheduleByMonth/DaysOfMonth/Day")
    return Monthly(day=int(day), clock=clock) if day else Daily(clock=clock)


def _command(task: Xml.Element) -> tuple[str, ...]:
    program, arguments = (_find(task, f"Actions/Exec/{name}") for name in ("Command", "Arguments"))
    if program is None or not program.text:
        raise ValueError("the task starts nothing")
    return (program.text, *_split("" if arguments is None else arguments.text or ""))


def _split(line: str) -> Iterator[str]:
    """The words of a Windows command line, as CommandLineToArgvW cuts it; the reverse of ``list2cmdline``."""
    word, quoted, begun, slashes = "", False, False, 0
    for char in line:
        if char == "\\":
            slashes += 1
            continue
        if char == '"':
            word += "\\" * (slashes // 2) + ('"' if slashes % 2 else "")
            quoted, begun = (quoted if slashes % 2 else not quoted), True
        elif char in " \t" and not quoted:
            word += "\\" * slashes
            if word or begun:
                yield word
            word, begun = "", False
        else:
            word += "\\" * slashes + char
        slashes = 0
    word += "\\" * slashes
    if word or begun:
        yield word
