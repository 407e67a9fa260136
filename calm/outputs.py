"""The plain files under ``<root>/outputs/``: two monitoring logs in JSON lines, and the latest metrics."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from calm.atomic import replace
from calm.health.model import Container, Endpoint, Instance, Snapshot

_BYTES, _OLD_FILES = 5_000_000, 3


class Outputs:
    """Writes what every tick saw of the stack ``project``. ``OSError`` if the folder cannot be written."""

    def __init__(self, folder: Path, project: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._project = folder, project
        self._lmstudio = _Lines(folder / "lm_studio_monitoring.log")
        self._docker = _Lines(folder / "docker_monitoring.log")

    def write(self, snapshot: Snapshot, text: str) -> None:
        """Add a line to both logs and replace ``system_metrics.json`` by the snapshot's ``text``."""
        self._lmstudio.add(lmstudio_line(snapshot))
        self._docker.add(docker_line(snapshot, self._project))
        # Not synced: what a power cut takes is in the journal, and here again at the next look.
        replace(self.folder / "system_metrics.json", f"{text}\n", sync=False)

    def close(self) -> None:
        self._lmstudio.close()
        self._docker.close()


def lmstudio_line(snapshot: Snapshot) -> dict[str, Any]:
    """Time, instances, how many LM_Support run, CPU in percent of one core, memory, the API's latency."""
    instances, watched = snapshot.lmstudio.instances, snapshot.watched
    return {
        "time": snapshot.taken_at,
        "instances": len(instances),
        "lm_support": None
        if watched is None
        else sum(each.name.startswith("LM_Support") for each in watched),
        "cpu_percent": _total([each.cpu_percent for each in instances]),
        "memory_bytes": _total([_memory(each) for each in instances]),
        "api_reachable": snapshot.lmstudio.api.reachable,
        "api_latency_ms": snapshot.lmstudio.api.latency_ms,
        "models": None
        if snapshot.lmstudio.api.models_loaded is None
        else [model.id for model in snapshot.lmstudio.api.models_loaded],
    }


def docker_line(snapshot: Snapshot, project: str) -> dict[str, Any]:
    """Time, the engine's status, and of each service its state, health, CPU and memory.

    Containers that are none of ``project`` go by their own names: theirs, too, may be a service redis.
    """
    return {
        "time": snapshot.taken_at,
        "status": snapshot.docker.status,
        "services": {_named(each, project): _service(each) for each in snapshot.containers or ()},
        "endpoints": {each.name: _endpoint(each) for each in snapshot.endpoints},
    }


class _Lines:
    """JSON lines in a file that is rotated by size; a failing disk raises, and prints no traceback."""

    def __init__(self, path: Path) -> None:
        self._handler = _Raising(path, maxBytes=_BYTES, backupCount=_OLD_FILES, encoding="utf-8", delay=True)

    def add(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":"))
        self._handler.emit(logging.makeLogRecord({"msg": text, "args": None}))

    def close(self) -> None:
        self._handler.close()


class _Raising(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        error = sys.exc_info()[1]
        assert error is not None, "logging calls this inside its except clause"
        raise error


def _named(container: Container, project: str) -> str:
    return container.service if container.service and container.project == project else container.name


def _service(container: Container) -> dict[str, Any]:
    names = ("state", "health", "cpu_percent", "memory_bytes", "memory_limit_bytes")
    return {name: getattr(container, name) for name in names}


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {"ok": endpoint.ok, "latency_ms": endpoint.latency_ms}


def _memory(instance: Instance) -> float | None:
    if instance.uss_bytes is None:
        return None
    return instance.uss_bytes + (instance.swap_bytes or 0)


def _total(figures: list[float | None]) -> float | None:
    """The sum, null if any part could not be measured."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if len(known) == len(figures) else None
