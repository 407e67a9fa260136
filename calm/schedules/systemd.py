"""A schedule as systemd units: a service and its timer, or a service that is kept alive.

Keys and their meaning: systemd.service(5), systemd.timer(5), systemd.exec(5), systemd.resource-control(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from calm.desired.templates import render as render_template
from calm.schedules.calendar import from_systemd, to_systemd
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

Fields = dict[str, tuple[str, ...]]
"""``Section.Key`` to its values in order, without comments."""

MARK = "X-Calm"
"""The section that makes a unit ours; systemd ignores sections that begin with ``X-`` (systemd.unit(5))."""

# The commands that may start LM Studio: what they start outlives them, so they cannot be fenced in. A pull
# writes wherever the settings say, these very units among it.
_STARTERS = frozenset({"heal", "watch", "up", "lmstudio", "restart", "pull"})


def effective(schedule: Schedule, place: Place) -> tuple[Schedule, tuple[str, ...]]:
    """What systemd will really do, and a sentence for each difference. Raises :class:`UnsupportedError`."""
    if schedule.when == At(event="login") and place.scope == "system":
        raise UnsupportedError("a system timer sees no login; use the backend systemd-user, or at: boot")
    if schedule.when == At(event="boot") and place.scope == "user":
        raise UnsupportedError("a user's systemd sees no boot; use at: login (at boot, if the user lingers)")
    if not isinstance(schedule.when, Always | At | Every):
        to_systemd(schedule.when)
    return sensible(schedule), ()


def main_unit(schedule: Schedule) -> str:
    """The unit that is enabled and started: the timer, or the service that is kept alive."""
    return f"{schedule.unit}.service" if isinstance(schedule.when, Always) else f"{schedule.unit}.timer"


def render(schedule: Schedule, place: Place) -> dict[str, str]:
    """The unit files by name. Raises :class:`UnsupportedError`."""
    schedule, _ = effective(schedule, place)
    values = {"schedule": schedule.name, "root": place.root, "scope": place.scope}
    values |= {"exec_start": _quoted(schedule.command, program=True)}
    values |= {"environment": _quoted((f"HOME={place.home}",)), "writable": _quoted((place.root,))}
    if isinstance(schedule.when, Always):
        return {main_unit(schedule): render_template("schedules/watch.service.j2", **values)}
    timeout = "infinity" if schedule.timeout is None else str(schedule.timeout)
    service = {"timeout": timeout, "starts_programs": not _STARTERS.isdisjoint(schedule.command[1:])}
    times = {"times": tuple(_times(schedule.when)), "accuracy": _accuracy(schedule.when)}
    timer = {"jitter": schedule.jitter, "catch_up": schedule.catch_up}
    return {
        f"{schedule.unit}.service": render_template("schedules/job.service.j2", **values, **service),
        f"{schedule.unit}.timer": render_template("schedules/job.timer.j2", **values, **times, **timer),
    }


def parse(files: Mapping[str, str]) -> Schedule:
    """The schedule that these unit files make. Raises :class:`UnreadableError`."""
    found = {name: fields(text) for name, text in files.items()}
    service = next((unit for name, unit in found.items() if name.endswith(".service")), {})
    timer = next((unit for name, unit in found.items() if name.endswith(".timer")), None)
    if name := one(service, f"{MARK}.Name"):
        return _schedule(name, service, timer)
    raise UnreadableError("no service unit with our mark")


def _schedule(name: str, service: Fields, timer: Fields | None) -> Schedule:
    command = _unquoted(one(service, "Service.ExecStart") or "")
    if timer is None:
        return Schedule(name=name, when=Always(), command=command)
    timeout = one(service, "Service.TimeoutStartSec") or "infinity"
    try:
        return Schedule(
            name=name,
            when=_when(timer),
            command=command,
            timeout=None if timeout == "infinity" else int(timeout),
            jitter=int(one(timer, "Timer.RandomizedDelaySec") or 0),
            catch_up=one(timer, "Timer.Persistent") == "true",
        )
    except ValueError as error:
        raise UnreadableError(f"{name}: {error}") from error


def owner(text: str) -> str | None:
    """The root of the calm that wrote this unit, or None for somebody else's."""
    return one(fields(text), f"{MARK}.Root")


def fields(text: str) -> Fields:
    """A unit file's values by ``Section.Key``; an empty assignment forgets the ones before it."""
    found: Fields = {}
    section = ""
    for line in _lines(text):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            key, value = (part.strip() for part in line.split("=", 1))
            path = f"{section}.{key}"
            found[path] = (*found.get(path, ()), value) if value else ()
    return found


def one(found: Fields, path: str) -> str | None:
    """The last value of a key, which is the one that counts."""
    return found.get(path, ())[-1] if found.get(path) else None


def _lines(text: str) -> Iterator[str]:
    whole = re.sub(r"\\\r?\n", " ", text)
    return (line.strip() for line in whole.splitlines() if line.strip() and line.strip()[0] not in "#;")


def _times(when: When) -> Iterator[tuple[str, str]]:
    match when:
        case Every(seconds=seconds):
            yield from (("OnActiveSec", str(seconds)), ("OnUnitActiveSec", str(seconds)))
        case At(event="boot"):
            yield "OnBootSec", "60"
        case At():
            yield "OnStartupSec", "30"
        case _:
            yield "OnCalendar", to_systemd(when)


def _when(timer: Fields) -> When:
    if seconds := one(timer, "Timer.OnUnitActiveSec"):
        return Every(seconds=int(seconds))
    if one(timer, "Timer.OnBootSec"):
        return At(event="boot")
    if one(timer, "Timer.OnStartupSec"):
        return At(event="login")
    if expression := one(timer, "Timer.OnCalendar"):
        return from_systemd(expression)
    raise ValueError("the timer has no time")


def _accuracy(when: When) -> int:
    """Seconds that systemd may be late, to wake the machine less often."""
    return max(1, min(60, when.seconds // 10)) if isinstance(when, Every) else 60


def _quoted(words: tuple[str, ...], *, program: bool = False) -> str:
    # systemd.service(5), "Command lines": % is a specifier and $ a variable there, quotes and \ as in C.
    return " ".join(_quoted_word(word.replace("$", "$$") if program else word) for word in words)


def _quoted_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if re.fullmatch(r"[\w@:./,+=$%-]+", escaped) else f'"{escaped}"'


def _unquoted(line: str) -> tuple[str, ...]:
    words = re.findall(r'"(?:[^"\\]|\\.)*"|\S+', line)
    return tuple(_unquoted_word(word) for word in words)


def _unquoted_word(word: str) -> str:
    inner = word[1:-1] if word.startswith('"') and word.endswith('"') and len(word) > 1 else word
    return re.sub(r"\\(.)", r"\1", inner).replace("%%", "%").replace("$$", "$")
