"""``calm status``: one row per host, from one probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from calm.fleet import report
from calm.fleet.board import Board, HostRun
from calm.fleet.targets import Target


def rows(target: Target) -> list[dict[str, Any]]:
    """What each host is like, in the inventory's order."""
    from calm.fleet import runner

    result = runner.look(target, Board())
    whole = report.document("status", result.hosts, result.board.hosts, result.unreachable, every=False)
    return [_row(row, result.board.hosts.get(row["name"])) for row in whole["hosts"]]


def document(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The document of ``status --json``."""
    return {"schema": 1, "command": "status", "hosts": found}


def table(found: list[dict[str, Any]]) -> str:
    """The rows as a table for a terminal."""
    head = ("HOST", "STATUS", "DRIFT", "SERVICES", "LM STUDIO", "SCHEDULES", "LAST APPLY")
    lines = [head, *(_cells(row) for row in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    printed = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    problems = [f"{row['name']}: {row['error']['message']}" for row in found if row["error"]]
    return "\n".join([click.style(printed[0], bold=True), *printed[1:], *problems])


def _row(row: dict[str, Any], run: HostRun | None) -> dict[str, Any]:
    state: Mapping[str, Any] = (run.state if run else None) or {}
    project = run.settings.docker.project if run and run.settings else None
    services = {
        container["service"] or container["name"]: container["health"] or container["state"]
        for container in state.get("containers", [])
        if container["project"] == project
    }
    return {
        "name": row["name"],
        "status": row["status"],
        "error": row["error"],
        "drift": [resource["id"] for resource in row["resources"]],
        "services": services,
        "lmstudio": _lmstudio(state.get("lmstudio")),
        "schedules": _schedules(state.get("schedules")),
        "applied_at": (state.get("record") or {}).get("applied_at"),
    }


def _lmstudio(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not state or state.get("status") != "found":
        return None
    return {"version": state.get("version"), "running": state.get("running")}


def _schedules(state: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        name: {"last_result": unit.get("last_result"), "next_run": unit.get("next_run")}
        for name, unit in ((state or {}).get("units") or {}).items()
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from datetime import datetime

    well = sum(health in ("healthy", "running") for health in row["services"].values())
    studio = row["lmstudio"]
    version = (studio or {}).get("version") or "found"
    bad = [name for name, unit in row["schedules"].items() if unit["last_result"] not in (None, "success", 0)]
    applied = row["applied_at"]
    return (
        row["name"],
        row["status"],
        str(len(row["drift"])),
        f"{well}/{len(row['services'])} well" if row["services"] else "none",
        (f"{version} {'running' if studio['running'] else 'stopped'}") if studio else "none",
        f"{len(row['schedules'])}" + (f", failed: {' '.join(bad)}" if bad else ""),
        datetime.fromtimestamp(applied).strftime("%Y-%m-%d %H:%M") if applied else "never",
    )
