"""The drift of schedules: what the host's scheduler runs, against the jobs that the settings declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calm.drift.agent import usable
from calm.drift.model import (
    Action,
    Change,
    Context,
    Json,
    LeftOut,
    Origin,
    Piece,
    Refusal,
    Resource,
    joint_origin,
)
from calm.drift.schedulers import SCHEDULERS, Entry, Scheduler, Wanted
from calm.schedules.declare import SERVICE, declared
from calm.schedules.model import PREFIX, Schedule, UnsupportedError
from calm.schedules.place import Place

if TYPE_CHECKING:
    from calm.settings import Settings


def request(settings: Settings) -> dict[str, Json]:
    """The schedulers' part of the probe's request."""
    names = sorted({*settings.schedules.jobs, SERVICE})
    return {"schedules": {"backend": settings.schedules.backend, "names": names, "prefix": PREFIX}}


def compare(context: Context) -> Piece:
    """One resource per schedule, what is ours and no longer declared included; removals come first.

    Where nothing can run them they are left out with the reason, and what ran before goes.
    """
    state = context.state.get("schedules")
    if not state:
        return _left_out(context, "the probe reported no scheduler")
    choice = _choice(context, state["backend_facts"])
    place = _place(context, choice)
    there = _there(state, place)
    if choice.name is None:
        gone = tuple(_removals(there, {}, context))
        reason = choice.reason or ""
        return Piece(resources=gone, left_out=(LeftOut(id="schedules", reason=reason),), notes=choice.notes)
    return _compared(context, state, choice, place, there)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The scheduler to use, or None and the reason."""

    name: str | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()


def _choice(context: Context, facts: Mapping[str, Json]) -> Choice:
    asked = context.settings.schedules.backend
    if asked == "none":
        return Choice(reason="schedules.backend is none")
    if not context.settings.agent.enabled:
        return Choice(reason="agent.enabled is off, and schedules run the agent")
    if not usable(context):
        return Choice(reason="schedules run the agent, and this host cannot have one")
    return _best(facts) if asked == "auto" else _asked(asked, facts)


def _best(facts: Mapping[str, Json]) -> Choice:
    # WSL first: a distribution stops when it is idle, and its own timers with it.
    for name in ("taskscheduler", "launchd", "systemd", "systemd-user", "cron"):
        if _lacks(name, facts) is None:
            return Choice(name=name, notes=tuple(_notes(name, facts)))
    return Choice(reason="this host has neither systemd nor cron (nor launchd, nor Task Scheduler)")


def _asked(name: str, facts: Mapping[str, Json]) -> Choice:
    lacks = _lacks(name, facts)
    if lacks:
        return Choice(reason=f"schedules.backend is {name}, and {lacks}")
    return Choice(name=name, notes=tuple(_notes(name, facts)))


def _lacks(name: str, facts: Mapping[str, Json]) -> str | None:
    """What this host lacks for a scheduler, or None."""
    match name:
        case "taskscheduler" if not (facts["wsl"] and facts["schtasks"] and facts["distribution"]):
            return "Task Scheduler is reached from WSL alone, with interop on"
        case "launchd" if not facts["launchctl"]:
            return "launchd is on macOS alone"
        case "systemd" if not (facts["systemd"] and facts["uid"] == 0):
            return "systemd does not run here, or this user is not root (systemd-user needs no root)"
        case "systemd-user" if not facts["user_manager"]:
            return "no systemd runs for this user"
        case "cron" if not facts["crontab"]:
            return "the command crontab is not there"
    return None


def _notes(name: str, facts: Mapping[str, Json]) -> Iterator[str]:
    if name == "cron" and facts["cron_running"] is False:
        yield "no cron daemon runs on this host: start it, or the schedules stay still"
    if name == "systemd-user" and facts["linger"] is False:
        yield "schedules run while the user is logged in; calm tries to let the user linger (loginctl)"
    if facts["wsl"] and name != "taskscheduler":
        yield f"in WSL {name} runs only while the distribution does; Task Scheduler is out of reach"


def _place(context: Context, choice: Choice) -> Place:
    host = context.state["host"]
    return Place(
        root=context.state["root"]["path"],
        home=host["home"],
        scope="user" if choice.name == "systemd-user" else "system",
        user=context.state["schedules"]["backend_facts"].get("windows_user"),
    )


def _agent(context: Context, place: Place, choice: Choice) -> tuple[str, ...]:
    calm = f"{place.root}/agent/venv/bin/calm"
    if choice.name != "taskscheduler":
        return (calm,)
    distribution = context.state["schedules"]["backend_facts"]["distribution"]
    # conhost --headless: a console program of a logged-in user would open a window at each run.
    system = "C:\\Windows\\System32\\"
    into = ("-d", distribution, "-u", context.state["host"]["user"], "--")
    return (f"{system}conhost.exe", "--headless", f"{system}wsl.exe", *into, calm)


There = Mapping[str, tuple[Entry, ...]]


def _there(state: Mapping[str, Json], place: Place) -> There:
    """What any scheduler has under our names, by schedule's name."""
    found: dict[str, tuple[Entry, ...]] = {}
    for scheduler in SCHEDULERS.values():
        for name, entry in scheduler.entries(state, place).items():
            found[name] = (*found.get(name, ()), entry)
    return found


def _compared(
    context: Context, state: Mapping[str, Json], choice: Choice, place: Place, there: There
) -> Piece:
    scheduler = SCHEDULERS[choice.name or ""]
    calm, file = _agent(context, place, choice), f"{place.root}/settings.json"
    those = declared(context.settings.schedules, calm=calm, settings_file=file)
    schedules = {each.name: each for each in those}
    resources = list(_removals(there, schedules, context))
    record: dict[str, Json] = {}
    for name, schedule in schedules.items():
        try:
            wanted = scheduler.wanted(schedule, state, place)
        except UnsupportedError as error:
            resources.append(_unsupported(name, error))
            continue
        resources.append(_resource(schedule, scheduler, wanted, there.get(name, ()), context))
        record[name] = {"backend": scheduler.name, "fields": dict(wanted.fields)}
    return Piece(resources=tuple(resources), notes=choice.notes, record={"schedules": record})


def _removals(there: There, schedules: Mapping[str, Schedule], context: Context) -> Iterator[Resource]:
    """What is ours, by its mark and root, and no longer declared."""
    root = context.state["root"]["path"]
    for name, entries in sorted(there.items()):
        ours = [entry for entry in entries if entry.root == root]
        if name not in schedules and ours:
            yield Resource(
                id=f"schedule:{name}",
                kind="schedule",
                action=Action.REMOVE,
                origin=Origin.SETTINGS if _recorded(name, context) is not None else Origin.HOST,
                changes=tuple(
                    Change(path=entry.scheduler, before=entry.called, after=None) for entry in ours
                ),
                effects=tuple(effect for entry in ours for effect in entry.remove),
            )


def _resource(
    schedule: Schedule, scheduler: Scheduler, wanted: Wanted, entries: tuple[Entry, ...], context: Context
) -> Resource:
    root = context.state["root"]["path"]
    present = next((entry for entry in entries if entry.scheduler == scheduler.name), None)
    if present is not None and present.root != root and _recorded(schedule.name, context) is None:
        return _foreign(schedule.name, present)
    others = [entry for entry in entries if entry is not present and entry.root == root]
    changes = (
        *_changes(present.fields if present else {}, wanted.fields, _recorded(schedule.name, context)),
        *(
            Change(path=other.scheduler, before=other.called, after=None, origin=Origin.HOST)
            for other in others
        ),
    )
    removed = tuple(effect for other in others for effect in other.remove)
    notes = (*wanted.notes, *((present.note,) if present and present.note else ()))
    return Resource(
        id=f"schedule:{schedule.name}",
        kind="schedule",
        action=(Action.UPDATE if present else Action.CREATE) if changes else Action.NONE,
        origin=joint_origin(tuple(change.origin for change in changes if change.origin)),
        changes=changes,
        effects=(*removed, *wanted.install) if changes else (),
        needs=("agent",),
        note="; ".join(notes) or None,
    )


def _recorded(name: str, context: Context) -> Mapping[str, Json] | None:
    """The fields that apply gave this schedule last, or None."""
    entry = (context.record.get("schedules") or {}).get(name)
    return None if entry is None else entry["fields"]


def _changes(
    before: Mapping[str, Json], after: Mapping[str, Json], recorded: Mapping[str, Json] | None
) -> tuple[Change, ...]:
    paths = [*after, *(path for path in before if path not in after)]
    return tuple(
        Change(
            path=path,
            before=before.get(path),
            after=after.get(path),
            origin=_origin(path, before.get(path), after.get(path), recorded),
        )
        for path in paths
        if before.get(path) != after.get(path)
    )


def _origin(path: str, before: Json, after: Json, recorded: Mapping[str, Json] | None) -> Origin:
    if recorded is None:
        return Origin.NEW
    if recorded.get(path) == after:
        return Origin.HOST
    return Origin.SETTINGS if recorded.get(path) == before else Origin.BOTH


def _foreign(name: str, entry: Entry) -> Resource:
    owner = f"belongs to the calm at {entry.root}" if entry.root else "is not calm's"
    refusal = Refusal(
        message=f"{entry.called} is there already and {owner}",
        hint=f"give the job {name} another name in schedules.jobs, or remove what is there",
    )
    return Resource(id=f"schedule:{name}", kind="schedule", refused=refusal)


def _unsupported(name: str, error: UnsupportedError) -> Resource:
    hint = f"change the job {name} in schedules.jobs, or choose another schedules.backend"
    return Resource(id=f"schedule:{name}", kind="schedule", refused=Refusal(message=str(error), hint=hint))


def _left_out(context: Context, reason: str) -> Piece:
    kept = {"schedules": context.record.get("schedules") or {}}
    return Piece(left_out=(LeftOut(id="schedules", reason=reason),), record=kept)
