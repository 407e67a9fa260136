"""``calm status``: one row per host, from one probe, and one more command where there is an agent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from calm.fleet import report
from calm.fleet.board import Board, HostRun
from calm.fleet.targets import Target

PULLED = "file:pull"
"""The name under which the probe reads the report of ``calm pull``."""


def rows(target: Target) -> list[dict[str, Any]]:
    """What each host is like, in the inventory's order."""
    from calm.fleet import runner

    board = Board(snapshots=True, reads={"documents": {PULLED: {"path": "outputs/pull.json"}}})
    result = runner.look(target, board)
    whole = report.document("status", result.hosts, result.board.hosts, result.unreachable, every=False)
    return [_row(row, result.board.hosts.get(row["name"])) for row in whole["hosts"]]


def document(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The document of ``status --json``."""
    return {"schema": 1, "command": "status", "hosts": found}


def table(found: list[dict[str, Any]]) -> str:
    """The rows as a table for a terminal; below it what is the matter, a line each."""
    head = (
        "HOST",
        "STATUS",
        "DRIFT",
        "SERVICES",
        "FINDINGS",
        "LM STUDIO",
        "SCHEDULES",
        "AGENT",
        "LAST APPLY",
    )
    lines = report.columns([head, *(_cells(row) for row in found)])
    return "\n".join([*lines, *(line for row in found for line in _matters(row))])


def _row(row: dict[str, Any], run: HostRun | None) -> dict[str, Any]:
    state: Mapping[str, Any] = (run.state if run else None) or {}
    health: Mapping[str, Any] = run.health if run else {}
    return {
        "name": row["name"],
        "status": row["status"],
        "error": row["error"],
        "drift": [resource["id"] for resource in row["resources"]],
        "services": _services(run, state),
        "findings": (state.get("healing") or {}).get("findings"),
        "lmstudio": _lmstudio(state.get("lmstudio"), health),
        "schedules": (state.get("schedules") or {}).get("runs") or {},
        "agent": _agent(state),
        "pull": _pulled(state),
        "applied_at": (state.get("record") or {}).get("applied_at"),
    }


def _services(run: HostRun | None, state: Mapping[str, Any]) -> dict[str, str]:
    project = run.settings.docker.project if run and run.settings else None
    return {
        container["service"] or container["name"]: _condition(container)
        for container in state.get("containers") or ()
        if container["project"] == project
    }


def _condition(container: Mapping[str, Any]) -> str:
    # Docker keeps what it last knew of the health of a container that is paused or has ended.
    running = container["state"] == "running"
    return str((running and container["health"]) or container["state"])


def _lmstudio(state: Mapping[str, Any] | None, snapshot: Mapping[str, Any]) -> dict[str, Any] | None:
    if not state or state.get("status") != "found":
        return None
    api = (snapshot.get("lmstudio") or {}).get("api") or {}
    models = api.get("models_loaded")
    return {
        "version": state.get("version"),
        "running": state.get("running"),
        "models": None if models is None else [_name(model) for model in models],
    }


def _name(model: Any) -> str:
    return str(model["id"] if isinstance(model, Mapping) else model)


def _agent(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which release of the agent is there, and whether it is this checkout's."""
    release = (state.get("agent") or {}).get("release")
    if release is None:
        return None
    return {"release": release, "current": release == state["controller"]["release"]}


def _pulled(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the host's own ``calm pull`` came to last, if it has one."""
    content = ((state.get("files") or {}).get(PULLED) or {}).get("content")
    if not content:
        return None
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return {key: found.get(key) for key in ("from", "commit", "at", "code", "summary")}


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    applied = row["applied_at"]
    well = sum(health in ("healthy", "running") for health in row["services"].values())
    return (
        row["name"],
        row["status"],
        str(len(row["drift"])),
        f"{well}/{len(row['services'])} well" if row["services"] else "none",
        "unknown" if row["findings"] is None else str(len(row["findings"])),
        _studio_cell(row["lmstudio"]),
        str(len(row["schedules"])) + (f", {len(bad)} failed" if (bad := _failed(row)) else ""),
        _agent_cell(row["agent"]),
        _time(applied) if applied else "never",
    )


def _studio_cell(studio: dict[str, Any] | None) -> str:
    if studio is None:
        return "none"
    running = "running" if studio["running"] else "stopped"
    return " ".join([studio["version"] or "found", running, *(studio["models"] or ())])


def _agent_cell(agent: dict[str, Any] | None) -> str:
    if agent is None:
        return "none"
    return str(agent["release"][:8]) + ("" if agent["current"] else ", old")


def _failed(row: dict[str, Any]) -> list[str]:
    return [name for name, run in row["schedules"].items() if run["last_result"] not in (None, "success")]


def _matters(row: dict[str, Any]) -> list[str]:
    lines = [f"{row['error']['message']} {row['error']['hint']}"] if row["error"] else []
    lines += [_finding(finding) for finding in row["findings"] or ()]
    lines += [f"schedule {name}: {row['schedules'][name]['last_result']}" for name in _failed(row)]
    pull = row["pull"]
    if pull and pull["code"] != 0:
        lines.append(
            f"calm pull ended with {pull['code']} at {_time(pull['at'])}: `calm pull` there says more"
        )
    return [f"{row['name']}: {line}" for line in lines]


def _finding(finding: Mapping[str, Any]) -> str:
    says = (finding.get("evidence") or {}).get("says")
    return f"{finding['rule']} {finding['target']}" + (f": {says}" if says else "")


def _time(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")
