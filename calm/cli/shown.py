"""How snapshots and the journal look in a terminal. Pure: values in, lines out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from calm.health.model import LMStudio, Snapshot

if TYPE_CHECKING:
    from calm.journal import Journal


def snapshot_lines(snapshot: Snapshot) -> Iterator[str]:
    """The machine, LM Studio, watched processes, containers and end points."""
    machine = snapshot.machine
    if machine is not None:
        yield (
            f"{snapshot.host}: cpu {_figure(machine.cpu_percent)} % of {machine.cpu_count} cores, memory"
            f" {_mb(machine.memory_available_bytes)} of {_mb(machine.memory_bytes)} free, disk"
            f" {_mb(machine.disk_free_bytes)} free, {machine.processes} processes"
        )
    yield from lmstudio_lines(snapshot.lmstudio)
    for each in snapshot.watched or ():
        known = f" ({each.known_as})" if each.known_as else ""
        yield f"process {each.name}{known}: cpu {_figure(each.cpu_percent)} %, {_mb(each.uss_bytes)}"
    if not snapshot.docker.reachable:
        yield f"docker: {snapshot.docker.error or snapshot.docker.status}"
    for box in snapshot.containers or ():
        health = f", {box.health}" if box.health else ""
        yield (
            f"container {box.name}: {box.state}{health}, cpu {_figure(box.cpu_percent)} %, memory"
            f" {_mb(box.memory_bytes)} of {_mb(box.memory_limit_bytes)}"
        )
    for end in snapshot.endpoints:
        yield f"{end.name}: {'answers' if end.ok else end.error} ({end.url})"
    for problem in snapshot.problems:
        yield f"could not be measured: {problem}"


def lmstudio_lines(lmstudio: LMStudio) -> Iterator[str]:
    """Every instance, the API and the loaded models."""
    if not lmstudio.instances:
        yield "LM Studio: " + ("not running" if lmstudio.installed else "not installed")
        return
    for each in lmstudio.instances:
        busy = {True: "busy", False: "idle", None: "busy or idle"}[each.busy]
        yield (
            f"LM Studio {each.root_pid}: {each.processes} processes, {busy}, cpu"
            f" {_figure(each.cpu_percent)} % of a core, {_mb(each.uss_bytes)}, {_mb(each.swap_bytes)} swapped"
        )
    api = lmstudio.api
    yield f"LM Studio's server: {'answers' if api.reachable else api.error or 'unknown'} (port {api.port})"
    for model in api.models_loaded or ():
        yield f"model {model.id}: {_mb(model.size_bytes)}, idle for {_figure(model.idle_seconds)} s"


def journal_document(journal: Journal, since: float) -> dict[str, Any]:
    """What ``calm journal --json`` prints; ``since`` in seconds since the epoch."""
    remedies = [
        {
            "at": each.at,
            "rule": each.rule,
            "target": each.target,
            "action": each.action,
            "reason": each.reason,
            "result": each.result,
            "took_ms": each.took_ms,
            "helped": each.helped,
            "evidence": dict(each.evidence),
        }
        for each in journal.remedies(since=since)
    ]
    return {
        "schema": 1,
        "since": since,
        "findings": journal.findings(since=since),
        "remedies": remedies,
        "applies": journal.applies(since=since),
        "bench": journal.benches(since=since),
    }


def journal_lines(document: Mapping[str, Any]) -> list[str]:
    """One line per event, oldest first."""
    rows = [
        *((each["since"], _finding(each)) for each in document["findings"]),
        *((each["at"], _remedy(each)) for each in document["remedies"]),
        *((each["at"], f"apply by {each['who']}") for each in document["applies"]),
        *((each["at"], f"bench {each['mode']}") for each in document["bench"] if each["mode"] != "samples"),
    ]
    lines = [f"{_time(at)}  {text}" for at, text in sorted(rows)]
    return lines or ["nothing happened in this time"]


def _finding(row: Mapping[str, Any]) -> str:
    end = f", gone at {_time(row['ended'])}" if row["ended"] else ", still so"
    return f"found   {row['rule']} {row['target']}: {row['evidence'].get('says', '')}{end}"


def _remedy(row: Mapping[str, Any]) -> str:
    helped = {True: ", it helped", False: ", it did not help", None: ""}[row["helped"]]
    return f"{row['result']:<7} {row['action']} {row['target']}: {row['reason']}{helped}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def _figure(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


def _mb(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**20:.0f} MB"
