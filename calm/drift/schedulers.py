"""Each scheduler as drift sees it: what it has of ours, field by field, and what would change it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from calm.drift.model import Effect, Json
from calm.schedules import cron, launchd, systemd, taskscheduler
from calm.schedules.model import PREFIX, Schedule, UnreadableError, described
from calm.schedules.place import Place

Fields = Mapping[str, Json]
State = Mapping[str, Json]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a scheduler has under one of our names.

    ``root`` is that of the calm that wrote it, None for somebody else. ``remove`` would take it away.
    """

    scheduler: str
    root: str | None
    fields: Fields
    remove: tuple[Effect, ...]
    called: str
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a scheduler should have under one of our names, and what would put it there."""

    fields: Fields
    install: tuple[Effect, ...]
    notes: tuple[str, ...]


class Scheduler(Protocol):
    """One of the host's schedulers; ``state`` is the probe's answer about all of them."""

    name: str

    def entries(self, state: State, place: Place, /) -> Mapping[str, Entry]:
        """What is there under our names, by schedule's name."""

    def wanted(self, schedule: Schedule, state: State, place: Place) -> Wanted:
        """What should be there. Raises :class:`~calm.schedules.UnsupportedError`."""


class Systemd:
    """systemd's system manager, or a user's."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.name = "systemd" if scope == "system" else "systemd-user"

    def entries(self, state: State, _place: Place) -> dict[str, Entry]:
        units = state.get("units" if self.scope == "system" else "user_units") or {}
        names = sorted({unit.removeprefix(PREFIX).rpartition(".")[0] for unit in units})
        return {name: self._entry(name, units, state) for name in names}

    def _entry(self, name: str, units: Mapping[str, Json], state: State) -> Entry:
        own = {unit: units[unit] for unit in _unit_names(name) if unit in units}
        contents = [facts["content"] for facts in own.values()]
        foreign = next((unit for unit, facts in own.items() if not facts["ours"]), None)
        main = own.get(f"{PREFIX}{name}.timer") or own[f"{PREFIX}{name}.service"]
        drop_ins = [path for facts in own.values() for path in facts.get("drop_ins") or ()]
        return Entry(
            scheduler=self.name,
            root=None if foreign else systemd.owner(contents[0]),
            fields={**_unit_fields(own), "enabled": main["enabled"], "active": main["active"]},
            remove=({"do": "systemd_remove", "name": name, "units": sorted(own), **self._where(state)},),
            called=foreign or sorted(own)[-1],
            note=f"overridden by {', '.join(drop_ins)}, which calm leaves as it is" if drop_ins else None,
        )

    def wanted(self, schedule: Schedule, state: State, place: Place) -> Wanted:
        files = systemd.render(schedule, place)
        main = systemd.main_unit(schedule)
        facts = state["backend_facts"]
        linger = self.scope == "user" and facts.get("linger") is False
        effect = {
            "do": "systemd_unit",
            "name": schedule.name,
            **self._where(state),
            "files": [{"name": name, "content": content} for name, content in files.items()],
            "unit": main,
            "linger": facts.get("user") if linger else None,
        }
        fields = {**_unit_fields({name: {"content": text} for name, text in files.items()})}
        notes = systemd.effective(schedule, place)[1]
        return Wanted(
            fields={**fields, "enabled": "enabled", "active": "active"}, install=(effect,), notes=notes
        )

    def _where(self, state: State) -> dict[str, str]:
        return {"scope": self.scope, "folder": state["backend_facts"]["unit_folders"][self.scope]}


def _unit_names(name: str) -> tuple[str, str]:
    return f"{PREFIX}{name}.service", f"{PREFIX}{name}.timer"


def _unit_fields(units: Mapping[str, Json]) -> dict[str, Json]:
    """The keys of a schedule's units as ``timer.OnCalendar``; a key with several values has a list."""
    return {
        f"{unit.rpartition('.')[2]}.{path}": values[0] if len(values) == 1 else list(values)
        for unit, facts in units.items()
        for path, values in systemd.fields(facts["content"] or "").items()
        if values
    }


class Cron:
    """The user's crontab."""

    name = "cron"

    def entries(self, state: State, place: Place) -> dict[str, Entry]:
        lines = (state.get("crontab") or {}).get("lines") or ()
        named = [(match[1], line) for line in lines if (match := _CRON_NAME.search(line))]
        names = sorted({name for name, _ in named})
        return {
            name: self._entry(name, tuple(line for at, line in named if at == name), state, place)
            for name in names
        }

    def _entry(self, name: str, lines: tuple[str, ...], state: State, place: Place) -> Entry:
        # A line that somebody edited may have lost its command; without another's root in it, it is ours.
        roots = {match[1] for line in lines if (match := _AGENT.search(line))}
        return Entry(
            scheduler=self.name,
            root=place.root if place.root in roots or not roots else roots.pop(),
            fields=_cron_fields(lines),
            remove=(self._effect(name, (), state, place),),
            called=f"the crontab's line of {name}",
        )

    def wanted(self, schedule: Schedule, state: State, place: Place) -> Wanted:
        lines = cron.render(schedule, place)
        _, notes = cron.effective(schedule, place)
        effect = self._effect(schedule.name, lines, state, place)
        return Wanted(fields=_cron_fields(lines), install=(effect,), notes=notes)

    def _effect(self, name: str, lines: tuple[str, ...], state: State, place: Place) -> Effect:
        command = state["backend_facts"]["crontab"]
        backup = f"{place.root}/backups"
        return {"do": "crontab", "command": command, "name": name, "lines": list(lines), "backup": backup}


_CRON_NAME = re.compile(r"(?:^|\s)CALM_SCHEDULE=([a-z0-9-]+)(?=\s)")
_AGENT = re.compile(r"(/\S*|'/[^']*)/agent/venv/bin/calm\b")


def _cron_fields(lines: tuple[str, ...]) -> dict[str, Json]:
    try:
        return _schedule_fields(cron.parse(lines))
    except UnreadableError:
        return {"lines": list(lines)}


def _schedule_fields(schedule: Schedule) -> dict[str, Json]:
    return {
        "when": described(schedule.when),
        "command": " ".join(schedule.command),
        "timeout": schedule.timeout,
        "jitter": schedule.jitter,
        "catch_up": schedule.catch_up,
    }


class Launchd:
    """The user's agents of launchd."""

    name = "launchd"

    def entries(self, state: State, _place: Place) -> dict[str, Entry]:
        plists = state.get("plists") or {}
        return {label.removeprefix(PREFIX): self._entry(label, plists[label], state) for label in plists}

    def _entry(self, label: str, facts: Mapping[str, Json], state: State) -> Entry:
        return Entry(
            scheduler=self.name,
            root=launchd.owner(facts["content"]) if facts["ours"] else None,
            fields={**_plist_fields(facts["content"] or ""), "loaded": facts["loaded"]},
            remove=(self._effect(label, None, state),),
            called=facts["path"],
        )

    def wanted(self, schedule: Schedule, state: State, place: Place) -> Wanted:
        text = launchd.render(schedule, place)
        _, notes = launchd.effective(schedule, place)
        effect = self._effect(schedule.unit, text, state)
        return Wanted(fields={**_plist_fields(text), "loaded": True}, install=(effect,), notes=notes)

    def _effect(self, label: str, content: str | None, state: State) -> Effect:
        folder = state["backend_facts"]["agents_folder"]
        return {"do": "launchd", "label": label, "folder": folder, "content": content}


def _plist_fields(text: str) -> dict[str, Json]:
    try:
        return dict(launchd.read(text))
    except UnreadableError:
        return {"content": "unreadable"}


class TaskScheduler:
    """Windows' Task Scheduler, reached from WSL."""

    name = "taskscheduler"

    def entries(self, state: State, _place: Place) -> dict[str, Entry]:
        return {name: self._entry(name, facts, state) for name, facts in (state.get("tasks") or {}).items()}

    def _entry(self, name: str, facts: Mapping[str, Json], state: State) -> Entry:
        text = facts["content"] or ""
        return Entry(
            scheduler=self.name,
            root=taskscheduler.owner(text),
            fields=_task_fields(text),
            remove=(self._effect(name, None, state),),
            called=f"the task {taskscheduler.FOLDER}{name}",
        )

    def wanted(self, schedule: Schedule, state: State, place: Place) -> Wanted:
        text = taskscheduler.render(schedule, place)
        _, notes = taskscheduler.effective(schedule, place)
        effect = {**self._effect(schedule.name, text, state), "start": schedule.name == "watch"}
        return Wanted(fields=_task_fields(text), install=(effect,), notes=notes)

    def _effect(self, name: str, content: str | None, state: State) -> Effect:
        program = [state["backend_facts"]["schtasks"]]
        where = {"program": program, "translate": ["wslpath", "-w"]}
        return {"do": "task", "name": taskscheduler.FOLDER + name, "content": content, **where}


def _task_fields(text: str) -> dict[str, Json]:
    try:
        return {**_schedule_fields(taskscheduler.parse(text)), "enabled": taskscheduler.is_enabled(text)}
    except UnreadableError:
        return {"content": "unreadable"}


SCHEDULERS: Mapping[str, Scheduler] = {
    scheduler.name: scheduler
    for scheduler in (Systemd("system"), Systemd("user"), Cron(), Launchd(), TaskScheduler())
}
