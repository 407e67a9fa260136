"""From a pass to what people and programs read: one document for both, text made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from calm.drift.model import Action, Change, HostDrift, Resource
from calm.fleet.board import HostError, HostRun
from calm.onhost import parse

Document = dict[str, Any]

_SIGNS = {"create": "+", "update": "~", "recreate": "±", "remove": "-"}
_COLOURS = {"create": "green", "update": "yellow", "recreate": "yellow", "remove": "red"}
_MIDWAY = {"lost": "failed", "canary": "drifted"}
"""Errors of a host of which it is known what was to change, and what becomes of its status."""
_ORIGINS = {
    "new": "new",
    "settings": "settings changed",
    "host": "changed on the host",
    "both": "settings and host changed",
}


def document(
    command: str,
    hosts: Iterable[str],
    runs: Mapping[str, HostRun],
    unreachable: Mapping[str, HostError],
    *,
    every: bool,
) -> Document:
    """The document of ``plan --json`` and ``apply --json``; ``every`` lists unchanged resources, too."""
    rows = [_host(command, name, runs.get(name), unreachable.get(name), every=every) for name in hosts]
    return {"schema": 1, "command": command, "hosts": rows, "summary": _summary(rows, runs)}


def text(whole: Document, *, notes: Mapping[str, tuple[str, ...]]) -> str:
    """What a person reads: by host, then by resource, and one line at the end that sums it up."""
    several = len(whole["hosts"]) > 1
    lines: list[str] = []
    for row in sorted(whole["hosts"], key=_in_trouble):
        told = (
            _result_lines(row)
            if whole["command"] == "apply"
            else _host_lines(row, notes.get(row["name"], ()))
        )
        lines += [*told, ""]
    if several:
        lines += [*_table(whole), ""]
    return "\n".join([*lines, summary_line(whole)])


def _in_trouble(row: Document) -> bool:
    """What somebody has to look at comes last, where it is seen."""
    return bool(row["error"]) or row["status"] == "failed"


def _table(whole: Document) -> list[str]:
    """A row per host: its status, how many resources were changed or would be, and how many failed."""
    applied = whole["command"] == "apply"
    lines = [("HOST", "STATUS", "CHANGED" if applied else "TO CHANGE", "FAILED", "WHY")]
    for row in whole["hosts"]:
        results = [resource["result"] for resource in row["resources"]]
        bad = [
            resource
            for resource in row["resources"]
            if resource["refused"] or resource["result"] in ("failed", "skipped")
        ]
        changed = results.count("changed") if applied else len(results) - len(bad)
        why = row["error"]["code"] if row["error"] else ", ".join(resource["id"] for resource in bad[:2])
        lines.append((row["name"], row["status"], str(changed), str(len(bad)), why))
    return columns(lines)


def columns(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines of a table, its cells padded to the widest; the first line is its head."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return [click.style(padded[0], bold=True), *padded[1:]]


def summary_line(whole: Document) -> str:
    """``Plan: 1 to create, 2 to change, 0 to remove on 1 host``, or what an apply came to."""
    count = whole["summary"]
    hosts = f"{count['hosts']} host{'' if count['hosts'] == 1 else 's'}"
    failed = f", {count['failed']} failed" if count["failed"] else ""
    if whole["command"] == "apply":
        results = [resource["result"] for row in whole["hosts"] for resource in row["resources"]]
        changed = f"{results.count('changed')} changed, {count['unchanged']} as they should be"
        return f"Apply: {changed}{failed} on {hosts}"
    change = f"{count['create']} to create, {count['update']} to change, {count['remove']} to remove"
    return f"Plan: {change}{failed} on {hosts}"


def outcome(resource: Resource, run: HostRun) -> str | None:
    """``changed``, ``failed`` or ``skipped`` once apply came past ``resource``; else ``None``."""
    meta = run.metas.get(resource.id)
    if resource.id in run.skipped:
        return "skipped"
    if meta is None or not meta.is_complete():
        return "skipped" if resource.pending else None
    if meta.did_error():
        return "failed"
    return "changed" if meta.did_change() else None


def reason(resource: Resource, run: HostRun) -> str | None:
    """Why ``resource`` failed or was skipped, in the words of whoever stopped."""
    if resource.id in run.skipped:
        return run.skipped[resource.id]
    if resource.refused is not None:
        return f"{resource.refused.message} {resource.refused.hint}"
    meta = run.metas.get(resource.id)
    if meta is None or not meta.is_complete() or not meta.did_error():
        return None
    return _effect_message(meta.stdout) or meta.stderr.strip() or "no reason was given"


def _effect_message(answer: str) -> str | None:
    try:
        results = parse(answer).get("results", [])
    except ValueError:
        return None
    return next((result["message"] for result in results if result["status"] == "failed"), None)


def _host(command: str, name: str, run: HostRun | None, down: HostError | None, *, every: bool) -> Document:
    row: Document = {"name": name, "status": "converged", "error": None, "left_out": [], "resources": []}
    if down is not None:
        return row | {"status": "unreachable", "error": down.to_json()}
    if run is None or run.drift is None or (run.error is not None and run.error.code not in _MIDWAY):
        error = run.error.to_json() if run and run.error else _no_answer()
        return row | {"status": "failed", "error": error}
    row["left_out"] = [{"id": left.id, "reason": left.reason} for left in run.drift.left_out]
    shown = run.drift.resources if every else run.drift.pending
    row["resources"] = [_resource(command, resource, run) for resource in shown]
    row["status"] = _MIDWAY[run.error.code] if run.error else _status(command, run.drift, run)
    row["error"] = run.error.to_json() if run.error else None
    if command == "apply":
        row["places"] = _places(run)
    return row


def _places(run: HostRun) -> list[str]:
    """Where a person finds things on a host that was applied."""
    assert run.settings is not None
    assert run.state is not None
    places = [f"files        {run.state['root']['path']}"]
    docker = run.settings.docker
    there = {container["service"] for container in run.state.get("containers") or ()}
    if run.drift is not None:
        services = {
            resource.id.removeprefix("service:"): resource.action is not Action.REMOVE
            for resource in run.drift.resources
        }
        there = {name for name in there | services.keys() if services.get(name, True)}
    address = "127.0.0.1" if docker.bind in ("0.0.0.0", "::") else docker.bind
    if "postgres" in there:
        places.append(f"postgres     {address}:{docker.postgres.port}")
    if "redis" in there:
        places.append(f"redis        {address}:{docker.redis.port}")
    if "agent-api" in there:
        places.append(f"agent API    http://{address}:{docker.agent_api.port}/api/health")
    return places


def _no_answer() -> dict[str, str]:
    return {
        "code": "probe",
        "message": "The host gave no answer that could be read.",
        "hint": "Is python3 3.9 or newer installed there? `ssh HOST python3 --version` shows it.",
    }


def _status(command: str, drift: HostDrift, run: HostRun) -> str:
    if command == "apply":
        results = [outcome(resource, run) for resource in drift.pending]
        return "failed" if any(result in ("failed", "skipped") for result in results) else "converged"
    if any(resource.refused for resource in drift.resources):
        return "failed"
    return "drifted" if drift.pending else "converged"


def _resource(command: str, resource: Resource, run: HostRun) -> Document:
    result = outcome(resource, run) if command == "apply" else None
    return {
        "id": resource.id,
        "kind": resource.kind,
        "action": resource.action.value,
        "origin": resource.origin.value if resource.origin else None,
        "changes": [change.to_json() for change in resource.changes],
        "diff": resource.diff,
        "note": resource.note,
        "refused": _refused(resource),
        "result": result,
        "reason": reason(resource, run) if result in ("failed", "skipped") else None,
    }


def _refused(resource: Resource) -> dict[str, str] | None:
    if resource.refused is None:
        return None
    return {"message": resource.refused.message, "hint": resource.refused.hint}


def _summary(rows: list[Document], runs: Mapping[str, HostRun]) -> dict[str, int]:
    actions = [resource["action"] for row in rows for resource in row["resources"]]
    drifts = [run.drift for run in runs.values() if run.drift is not None]
    failed = [
        resource
        for row in rows
        for resource in row["resources"]
        if resource["refused"] or resource["result"] in ("failed", "skipped")
    ]
    return {
        "create": actions.count("create"),
        "update": actions.count("update") + actions.count("recreate"),
        "remove": actions.count("remove"),
        "unchanged": sum(len(drift.resources) - len(drift.pending) for drift in drifts),
        "failed": len(failed)
        + sum(row["status"] in ("failed", "unreachable") and bool(row["error"]) for row in rows),
        "hosts": len(rows),
    }


def _host_lines(row: Document, notes: tuple[str, ...]) -> list[str]:
    lines = [f"{click.style(row['name'], bold=True)}: {row['status']}"]
    if row["error"]:
        lines += [f"  {row['error']['message']}", f"  {row['error']['hint']}"]
    for resource in row["resources"]:
        lines += _resource_lines(resource)
    lines += [f"  left out: {left['id']}: {left['reason']}" for left in row["left_out"]]
    return lines + [f"  note: {note}" for note in notes]


def _result_lines(row: Document) -> list[str]:
    """What an apply came to on one host: the plan that came before it has the details."""
    lines = [f"{click.style(row['name'], bold=True)}: {row['status']}"]
    if row["error"]:
        lines += [f"  {row['error']['message']}", f"  {row['error']['hint']}"]
    for resource in row["resources"]:
        if resource["result"] in ("failed", "skipped"):
            lines.append(
                click.style(f"  {resource['id']}: {resource['result']}: {resource['reason']}", fg="red")
            )
    lines += [f"  left out: {left['id']}: {left['reason']}" for left in row["left_out"]]
    return lines + [f"  {place}" for place in row.get("places", ())]


def _resource_lines(resource: Document) -> list[str]:
    action = resource["action"]
    if resource["refused"]:
        return [
            click.style(f"  ! {resource['id']}: refused", fg="red"),
            f"      {resource['refused']['message']}",
            f"      {resource['refused']['hint']}",
        ]
    origin = f"  ({_ORIGINS[resource['origin']]})" if resource["origin"] else ""
    head = f"  {_SIGNS.get(action, ' ')} {resource['id']}: {action}{origin}"
    lines = [click.style(head, fg=_COLOURS.get(action))]
    if action == "create" and resource["diff"]:
        added = sum(line.startswith("+") for line in resource["diff"].splitlines()) - 1
        lines.append(f"      a new file of {added} line{'' if added == 1 else 's'}")
    elif resource["diff"]:
        lines += [f"      {_diff_line(line)}" for line in resource["diff"].splitlines()]
    else:
        lines += [f"      {_change_line(change)}" for change in resource["changes"]]
    if resource["note"]:
        lines.append(f"      note: {resource['note']}")
    if resource["result"] in ("failed", "skipped"):
        lines.append(click.style(f"      {resource['result']}: {resource['reason']}", fg="red"))
    return lines


def _diff_line(line: str) -> str:
    colour = {"+": "green", "-": "red"}.get(line[:1])
    return click.style(line, fg=colour) if colour else line


def _change_line(change: Document) -> str:
    if change["sensitive"]:
        return f"{change['path']}: (sensitive)"
    return f"{change['path']}: {_value(change['before'], change)} -> {_value(change['after'], change)}"


def _value(value: Any, change: Document) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, int) and not isinstance(value, bool) and "memory" in change["path"] and value > 0:
        from calm.settings.units import size_text

        return size_text(value)
    return str(value)


__all__ = ["Change", "Document", "columns", "document", "outcome", "reason", "summary_line", "text"]
