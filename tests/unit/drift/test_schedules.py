"""The drift of schedules: which scheduler, what differs and whose doing it was, what goes and what stays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from calm.drift import schedules
from calm.drift.model import Action, Context, Origin, Piece, Resource
from calm.drift.schedulers import SCHEDULERS
from calm.onhost.schedules import CRON_MARK
from calm.settings import Settings

ROOT = "/home/ann/calm"
FACTS: Mapping[str, Any] = {
    "system": "Linux",
    "uid": 0,
    "user": "ann",
    "wsl": False,
    "systemd": True,
    "user_manager": False,
    "linger": None,
    "crontab": "/usr/bin/crontab",
    "cron_running": True,
    "launchctl": None,
    "schtasks": None,
    "distribution": None,
    "windows_user": None,
    "unit_folders": {"system": "/etc/systemd/system", "user": "/home/ann/.config/systemd/user"},
    "agents_folder": "/Users/ann/Library/LaunchAgents",
}
USER_MANAGER = {"uid": 1000, "systemd": True, "user_manager": True, "linger": False}
MAC = {"system": "Darwin", "uid": 501, "systemd": False, "launchctl": "/bin/launchctl"}
WSL = {
    "wsl": True,
    "schtasks": "/mnt/c/Windows/System32/schtasks.exe",
    "distribution": "Ubuntu",
    "windows_user": "D\\ann",
}
CRON = {"systemd": False}


def _context(
    state: Mapping[str, Any], *, record: Mapping[str, Any] | None = None, **settings: Any
) -> Context:
    host = {"home": "/home/ann", "user": "ann"}
    whole = {
        "schedules": state,
        "host": host,
        "root": {"path": ROOT},
        "agent": {"python": {"path": "/usr/bin/python3"}},
    }
    parsed = Settings.model_validate({"root": ROOT, **settings})
    return Context(settings=parsed, state=whole, record=record or {}, secrets={}, digest_key="00")


def _state(facts: Mapping[str, Any] | None = None, **entries: Any) -> dict[str, Any]:
    nothing = {
        "units": {},
        "user_units": {},
        "crontab": {"status": "absent", "lines": []},
        "plists": {},
        "tasks": {},
    }
    return {"backend_facts": {**FACTS, **(facts or {})}, **nothing, **entries}


def _applied(state: Mapping[str, Any], piece: Piece) -> dict[str, Any]:
    """The state once the piece's effects were carried out, as the host's own effects would."""
    after = json.loads(json.dumps(state))
    for effect in (effect for resource in piece.resources for effect in resource.effects):
        _DO[effect["do"]](after, effect)
    return after


def _units(state: Mapping[str, Any], effect: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["units" if effect["scope"] == "system" else "user_units"]
    return found


def _install_units(state: Mapping[str, Any], effect: Mapping[str, Any]) -> None:
    for file in effect["files"]:
        main = file["name"] == effect["unit"]
        _units(state, effect)[file["name"]] = {
            "ours": True,
            "content": file["content"],
            "enabled": "enabled" if main else "static",
            "active": "active" if main else "inactive",
            "drop_ins": [],
        }


def _remove_units(state: Mapping[str, Any], effect: Mapping[str, Any]) -> None:
    for unit in effect["units"]:
        del _units(state, effect)[unit]


def _crontab(state: Any, effect: Mapping[str, Any]) -> None:
    kept = [line for line in state["crontab"]["lines"] if f"CALM_SCHEDULE={effect['name']} " not in line]
    state["crontab"] = {"status": "present", "lines": [*kept, *effect["lines"]]}


def _launchd(state: Any, effect: Mapping[str, Any]) -> None:
    state["plists"][effect["label"]] = {
        "path": "x",
        "ours": True,
        "content": effect["content"],
        "loaded": True,
    }


def _task(state: Any, effect: Mapping[str, Any]) -> None:
    state["tasks"][effect["name"].rpartition("\\")[2]] = {"ours": True, "content": effect["content"]}


_DO: Mapping[str, Any] = {
    "systemd_unit": _install_units,
    "systemd_remove": _remove_units,
    "crontab": _crontab,
    "launchd": _launchd,
    "task": _task,
}


def _by_id(piece: Piece) -> dict[str, Resource]:
    return {resource.id: resource for resource in piece.resources}


HOSTS = {
    "systemd": {},
    "systemd-user": USER_MANAGER,
    "launchd": MAC,
    "taskscheduler": WSL,
    "cron": CRON,
}


@pytest.mark.parametrize("name", HOSTS)
def test_every_scheduler_is_chosen_by_what_the_host_has_and_converges(name: str) -> None:
    state = _state(HOSTS[name])
    first = schedules.compare(_context(state))
    assert {resource.id for resource in first.resources} == {
        "schedule:docker-health",
        "schedule:lmstudio-monitor",
        "schedule:performance-test",
        "schedule:prune",
        "schedule:watch",
    }
    assert {(each.action, each.origin, each.refused) for each in first.resources} == {
        (Action.CREATE, Origin.NEW, None)
    }
    assert all(entry["backend"] == name for entry in first.record["schedules"].values())
    again = schedules.compare(_context(_applied(state, first), record=first.record))
    assert not [resource for resource in again.resources if resource.pending]
    assert again.record == first.record


def test_the_probe_is_asked_for_every_name() -> None:
    part = schedules.request(Settings())["schedules"]
    assert part["backend"] == "auto"
    assert {"watch", "prune", "report"} <= set(part["names"])


@pytest.mark.parametrize(
    ("facts", "settings", "reason"),
    [
        ({"systemd": False, "crontab": None}, {}, "neither systemd nor cron"),
        ({}, {"schedules": {"backend": "launchd"}}, "launchd is on macOS alone"),
        ({"uid": 1000}, {"schedules": {"backend": "systemd"}}, "not root"),
        ({}, {"schedules": {"backend": "none"}}, "backend is none"),
        ({}, {"agent": {"enabled": False}}, "agent.enabled is off"),
    ],
)
def test_without_a_scheduler_all_is_left_out_and_the_reason_said(
    facts: Any, settings: Any, reason: str
) -> None:
    piece = schedules.compare(_context(_state(facts), **settings))
    assert not piece.resources
    assert reason in piece.left_out[0].reason


def test_switching_schedules_off_takes_away_what_is_ours() -> None:
    state = _state()
    first = schedules.compare(_context(state))
    off = schedules.compare(
        _context(_applied(state, first), record=first.record, schedules={"backend": "none"})
    )
    assert {resource.action for resource in off.resources} == {Action.REMOVE}
    assert len(off.resources) == 5
    gone = _applied(_applied(state, first), off)
    assert gone["units"] == {}


@pytest.mark.parametrize(
    ("field", "value"), [("enabled", "disabled"), ("active", "inactive"), ("enabled", "masked")]
)
def test_a_timer_that_is_off_is_the_hosts_doing(field: str, value: str) -> None:
    state = _state()
    first = schedules.compare(_context(state))
    after = _applied(state, first)
    after["units"]["calm-prune.timer"][field] = value
    (drifted,) = [r for r in schedules.compare(_context(after, record=first.record)).resources if r.pending]
    assert (drifted.id, drifted.action, drifted.origin) == ("schedule:prune", Action.UPDATE, Origin.HOST)
    assert [(change.path, change.before) for change in drifted.changes] == [(field, value)]


def test_an_edit_is_named_by_its_key_and_a_comment_is_none() -> None:
    state = _state()
    first = schedules.compare(_context(state))
    after = _applied(state, first)
    timer = after["units"]["calm-prune.timer"]
    timer["content"] = "# mine\n" + timer["content"].replace("23:00", "04:00")
    after["units"]["calm-watch.service"]["content"] += "\n; nothing\n"
    (drifted,) = [r for r in schedules.compare(_context(after, record=first.record)).resources if r.pending]
    (change,) = drifted.changes
    assert (change.path, change.origin) == ("timer.Timer.OnCalendar", Origin.HOST)
    assert (change.before, change.after) == ("Sun *-*-* 04:00:00", "Sun *-*-* 23:00:00")


def test_a_new_time_is_the_settings_doing() -> None:
    state = _state()
    first = schedules.compare(_context(state))
    moved = {"schedules": {"jobs": {"prune": {"weekly": "Mon 05:00"}}}}
    piece = schedules.compare(_context(_applied(state, first), record=first.record, **moved))
    (drifted,) = [resource for resource in piece.resources if resource.pending]
    assert (drifted.id, drifted.origin) == ("schedule:prune", Origin.SETTINGS)


def test_a_rename_removes_the_old_name_first() -> None:
    state = _state()
    first = schedules.compare(_context(state))
    renamed = {
        "schedules": {"jobs": {"prune": {"enabled": False}, "sweep": {"weekly": "Sun 23:00", "run": "prune"}}}
    }
    piece = schedules.compare(_context(_applied(state, first), record=first.record, **renamed))
    assert [(r.id, r.action) for r in piece.resources if r.pending] == [
        ("schedule:prune", Action.REMOVE),
        ("schedule:sweep", Action.CREATE),
    ]


def test_a_foreign_unit_with_a_like_name_is_left_alone_and_one_with_our_name_is_refused() -> None:
    foreign = {"ours": False, "content": None, "enabled": "enabled", "active": "active", "drop_ins": []}
    state = _state(units={"calm-music.timer": foreign, "calm-prune.timer": foreign})
    found = _by_id(schedules.compare(_context(state)))
    assert "schedule:music" not in found
    refused = found["schedule:prune"].refused
    assert refused is not None
    assert "is not calm's" in refused.message


def test_another_calms_schedules_are_not_ours() -> None:
    state = _state()
    other = schedules.compare(_context(state))
    theirs = json.loads(json.dumps(_applied(state, other)).replace(ROOT, "/srv/other"))
    found = _by_id(schedules.compare(_context(theirs)))
    refused = found["schedule:prune"].refused
    assert refused is not None
    assert "/srv/other" in refused.message
    off = schedules.compare(_context(theirs, schedules={"backend": "none"}))
    assert not off.resources


def test_a_move_to_another_scheduler_takes_the_old_entry_along() -> None:
    state = _state(CRON)
    first = schedules.compare(_context(state))
    after = {**_applied(state, first), "backend_facts": FACTS}
    second = schedules.compare(_context(after, record=first.record))
    assert {resource.action for resource in second.resources} == {Action.CREATE}
    moved = _applied(after, second)
    assert moved["crontab"]["lines"] == []
    assert "calm-prune.timer" in moved["units"]


def test_what_cron_cannot_do_is_said_and_what_it_can_not_be_asked_is_refused() -> None:
    jobs = {"odd": {"at": "login", "run": "check"}}
    found = _by_id(schedules.compare(_context(_state(CRON), schedules={"jobs": jobs})))
    assert "missed" in (found["schedule:prune"].note or "")
    refused = found["schedule:odd"].refused
    assert refused is not None
    assert "no login" in refused.message


@pytest.mark.parametrize("how", ["twice", "commented", "edited"])
def test_lines_of_a_crontab_that_were_tampered_with_are_drift(how: str) -> None:
    state = _state(CRON)
    first = schedules.compare(_context(state))
    after = _applied(state, first)
    lines = after["crontab"]["lines"]
    index = next(at for at, line in enumerate(lines) if "CALM_SCHEDULE=prune " in line)
    if how == "twice":
        lines.append(lines[index])
    else:
        lines[index] = "# " + lines[index] if how == "commented" else lines[index].replace("0 23", "5 23")
    (drifted,) = [r for r in schedules.compare(_context(after, record=first.record)).resources if r.pending]
    assert (drifted.id, drifted.action, drifted.origin) == ("schedule:prune", Action.UPDATE, Origin.HOST)
    assert CRON_MARK.search(drifted.effects[0]["lines"][0].encode())


def test_an_override_of_a_unit_is_named_and_left() -> None:
    state = _state()
    first = schedules.compare(_context(state))
    after = _applied(state, first)
    after["units"]["calm-prune.timer"]["drop_ins"] = ["/etc/systemd/system/calm-prune.timer.d/override.conf"]
    found = _by_id(schedules.compare(_context(after, record=first.record)))["schedule:prune"]
    assert "override.conf" in (found.note or "")
    assert found.action is Action.NONE


def test_in_wsl_the_command_leads_into_the_distribution_without_a_window() -> None:
    first = schedules.compare(_context(_state(WSL)))
    task = _by_id(first)["schedule:watch"].effects[0]["content"]
    assert "conhost.exe</Command>" in task
    assert "-d Ubuntu -u ann -- /home/ann/calm/agent/venv/bin/calm watch --settings" in task


def test_every_scheduler_of_the_settings_is_there() -> None:
    assert set(SCHEDULERS) == set(HOSTS)
