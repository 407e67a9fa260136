"""A schedule as a line of a user's crontab, which says by itself that it is ours.

The line carries ``CALM_SCHEDULE=<name>``, so that no edit around it can part it from its owner.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

from calm.schedules.calendar import from_cron, to_cron
from calm.schedules.model import (
    Always,
    At,
    Every,
    Schedule,
    UnreadableError,
    UnsupportedError,
    When,
    sensible,
)
from calm.schedules.place import Place

_LINE = re.compile(r"(?P<when>@reboot|\S+ \S+ \S+ \S+ \S+) CALM_SCHEDULE=(?P<name>[a-z0-9-]+) (?P<rest>.*)")
_JITTER = re.compile(r"sh -c '[^']*? \\% (?P<seconds>\d+)\)\"; [^']*' calm-jitter ")
_LIMIT = re.compile(r"timeout -k 30 (\d+) ")
_GUARD = re.compile(r"sh -c .* calm-watch (?P<command>.*) >/dev/null")

_SERVICE_TIMES = ("@reboot", "* * * * *")
_NO_CATCHING_UP = "cron does not make up for a run that was missed while the machine was off"
_SUFFIX = " >/dev/null"  # cron mails what a job prints; what goes wrong is on stderr, and is still mailed

# The same wait on each run of a host and another on the next host, as systemd's FixedRandomDelay has it.
_WAIT = 'sleep "$(expr "$(hostname | cksum | cut -d" " -f1)" % {jitter})"; exec "$@"'

# One pid file instead of flock, which is not everywhere. The pid counts only while it is that program's:
# after a reboot it may be another's. `exec` keeps the pid that was written.
_REVIVE = (
    'f="$1"; shift; p="$(cat "$f" 2>/dev/null)" && kill -0 "$p" 2>/dev/null && '
    '{ [ ! -r "/proc/$p/cmdline" ] || grep -qF -- "$1" "/proc/$p/cmdline"; } && exit; '
    'echo "$$" >"$f" && exec "$@"'
)


def effective(schedule: Schedule, place: Place) -> tuple[Schedule, tuple[str, ...]]:  # noqa: ARG001 - as the others
    """What cron will really do, and a sentence for each difference. Raises :class:`UnsupportedError`."""
    _check_words(schedule.command)
    wanted = sensible(schedule)
    notes = (_NO_CATCHING_UP,) if wanted.catch_up else ()
    when = wanted.when if isinstance(wanted.when, Always) else _when(_fields(wanted.when))
    return replace(wanted, when=when, catch_up=False), notes


def render(schedule: Schedule, place: Place) -> tuple[str, ...]:
    """The crontab's lines for one schedule, without line ends. Raises :class:`UnsupportedError`."""
    schedule, _ = effective(schedule, place)
    head = f"CALM_SCHEDULE={schedule.name}"
    if isinstance(schedule.when, Always):
        revived = _revived(schedule, place)
        return tuple(f"{when} {head} {revived}" for when in _SERVICE_TIMES)
    wait = _shell((_WAIT.format(jitter=schedule.jitter),))
    jitter = f"sh -c {wait} calm-jitter " if schedule.jitter else ""
    limit = "" if schedule.timeout is None else f"timeout -k 30 {schedule.timeout} "
    return (f"{_fields(schedule.when)} {head} {jitter}{limit}{_shell(schedule.command)}{_SUFFIX}",)


def parse(lines: tuple[str, ...]) -> Schedule:
    """The schedule that these lines of one name make. Raises :class:`UnreadableError`."""
    matches = [_LINE.fullmatch(line.strip(" ")) for line in lines]
    if not matches or any(match is None for match in matches):
        raise UnreadableError("not a line as calm writes it")
    found = [match for match in matches if match]
    if guard := _GUARD.fullmatch(found[0]["rest"]):
        return _service(found, guard["command"])
    if len(found) != 1:
        raise UnreadableError(f"{len(found)} lines of one job")
    return _job(found[0])


def _service(found: list[re.Match[str]], command: str) -> Schedule:
    alike = len({match["rest"] for match in found}) == 1
    if not alike or tuple(match["when"] for match in found) != _SERVICE_TIMES:
        raise UnreadableError("a service has one line at boot and the same one each minute")
    # The words before the command: the pid file.
    return Schedule(name=found[0]["name"], when=Always(), command=_words(command)[1:])


def _job(match: re.Match[str]) -> Schedule:
    rest = match["rest"].removesuffix(_SUFFIX)
    jitter = _JITTER.match(rest)
    rest = rest[jitter.end() :] if jitter else rest
    limit = _LIMIT.match(rest)
    rest = rest[limit.end() :] if limit else rest
    try:
        return Schedule(
            name=match["name"],
            when=_when(match["when"]),
            command=_words(rest),
            timeout=int(limit[1]) if limit else None,
            jitter=int(jitter["seconds"]) if jitter else 0,
        )
    except ValueError as error:
        raise UnreadableError(str(error)) from error


def _revived(schedule: Schedule, place: Place) -> str:
    pid_file = f"{place.root}/agent/{schedule.name}.pid"
    _check_words((pid_file,))
    return f"sh -c {_shell((_REVIVE,))} calm-watch {_shell((pid_file, *schedule.command))}{_SUFFIX}"


def _fields(when: When) -> str:
    match when:
        case At(event="boot"):
            return "@reboot"
        case At():
            raise UnsupportedError("cron sees no login; use at: boot")
        case Every(seconds=seconds):
            return _every(seconds)
        case _:
            return to_cron(when)


def _every(seconds: int) -> str:
    """Steps that divide the hour or the day: cron starts anew at each, so that others would stumble."""
    minutes, rest = divmod(seconds, 60)
    if rest == 0 and 1 < minutes < 60 and 60 % minutes == 0:
        return f"*/{minutes} * * * *"
    if minutes == 1 and rest == 0:
        return "* * * * *"
    hours, rest = divmod(seconds, 3600)
    if rest == 0 and hours in (1, 24):
        return "0 * * * *" if hours == 1 else "0 0 * * *"
    if rest == 0 and 1 < hours < 24 and 24 % hours == 0:
        return f"0 */{hours} * * *"
    raise UnsupportedError(
        f"cron cannot do every {seconds} s evenly; use minutes that divide 60 or hours that divide 24"
    )


def _when(fields: str) -> When:
    if fields == "@reboot":
        return At(event="boot")
    if fields == "* * * * *":
        return Every(seconds=60)
    if match := re.fullmatch(r"\*/(\d+) \* \* \* \*", fields):
        return Every(seconds=int(match[1]) * 60)
    if match := re.fullmatch(r"0 \*/(\d+) \* \* \*", fields):
        return Every(seconds=int(match[1]) * 3600)
    return from_cron(fields)


def _check_words(words: tuple[str, ...]) -> None:
    # Crons do not agree on what a backslash before another character means (crontab(5) of each).
    if any("\\" in word for word in words):
        raise UnsupportedError("a backslash in a command cannot be written so that every cron reads it alike")


def _shell(words: tuple[str, ...]) -> str:
    return " ".join(shlex.quote(word) for word in words).replace("%", "\\%")


def _words(line: str) -> tuple[str, ...]:
    return tuple(shlex.split(line.replace("\\%", "%")))
