"""Docker's event stream: what turned unhealthy or was killed, told at once.

The stream is for speed alone: while it tells of no change, the containers need not be listed at every look.
It may break, and then it is joined again; the sweep over all containers is what finds everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calm.heal.model import Finding
from calm.health import engine
from calm.health.containers import OWNED, SERVICE

if TYPE_CHECKING:
    from calm.settings import Settings

RETRY, LONGEST_RETRY = 1.0, 30.0
_CHANGES = (
    "create", "start", "restart", "stop", "kill", "die", "destroy", "pause", "unpause", "rename", "update",
)  # fmt: skip
_KINDS = ("health_status", "oom", *_CHANGES)
"""All that changes what a list of containers says; not the commands that health checks run in them."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a container of ours; ``at`` in seconds since the epoch."""

    kind: str
    name: str
    id: str
    service: str | None
    at: float


def parse(raw: Mapping[str, Any], project: str) -> Event | None:
    """The event, if it is about a container that calm made. Pure.

    Docker writes ``health_status: unhealthy`` into the action (API 1.45 and before) or adds it there.
    """
    actor = raw.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    if attributes.get(OWNED) != project:
        return None
    return Event(
        kind=str(raw.get("Action") or raw.get("status") or ""),
        name=str(attributes.get("name") or ""),
        id=str(actor.get("ID") or ""),
        service=attributes.get(SERVICE),
        at=raw["timeNano"] / 1e9 if raw.get("timeNano") else float(raw.get("time") or 0),
    )


def unhealthy(event: Event, settings: Settings) -> Finding | None:
    """The finding that an event is by itself: Docker has confirmed it by its retries. Pure."""
    do = settings.healing.rules.container_unhealthy.do
    if event.kind != "health_status: unhealthy" or do == "off":
        return None
    evidence = {
        "says": f"{event.name} fails its health check",
        "id": event.id[:12],
        "service": event.service,
        "event_at": event.at,
    }
    return Finding(
        rule="container-unhealthy",
        target=f"container:{event.name}",
        evidence=evidence,
        since=event.at,
        mode=do,
        action="restart-container",
    )


class Stream(threading.Thread):
    """Reads the engine's events until :meth:`close`; a broken stream is told and joined again."""

    def __init__(
        self, settings: Settings, deliver: Callable[[Event], None], notice: Callable[[str], None]
    ) -> None:
        super().__init__(name="docker-events", daemon=True)
        self._project, self._deliver, self._notice = settings.docker.project, deliver, notice
        self._closing = threading.Event()
        self._open: Any = None
        self._joined_at = self._changed_at = float("inf")
        self._told_at = 0

    def unchanged_since(self, moment: float) -> bool:
        """Whether the stream has been whole since ``moment`` (monotonic) and told of no change."""
        return self._joined_at <= moment and self._changed_at <= moment

    def run(self) -> None:
        """Follow the stream; between two tries wait longer each time, up to half a minute."""
        wait, broken = RETRY, False
        while not self._closing.is_set():
            try:
                for event in self._follow():
                    if broken:
                        self._notice("Docker's events are back")
                    wait, broken = RETRY, False
                    if event is not None:
                        self._deliver(event)
                said = "the engine closed it"
            except _errors() as error:
                said = type(error).__name__
            self._joined_at = float("inf")
            if self._closing.is_set():
                return
            if not broken:
                self._notice(
                    f"Docker's event stream broke ({said}); the sweep goes on, and it is joined again"
                )
            broken = True
            self._closing.wait(wait)
            wait = min(2 * wait, LONGEST_RETRY)

    def close(self) -> None:
        """End the thread, at once where the stream lets itself be closed."""
        self._closing.set()
        if self._open is not None:
            self._open.close()

    def _follow(self) -> Any:
        filters: Any = {"type": "container", "event": list(_KINDS)}
        # The engine answers before it listens: what happens in between is asked for by its time.
        before = self._told_at
        since: Any = f"{time.time():.6f}"
        self._open = engine.connect(timeout=60).events(decode=True, filters=filters, since=since)
        self._changed_at = self._joined_at = time.monotonic()
        # The first thing that is told is that it works again.
        yield None
        for raw in self._open:
            self._changed_at = time.monotonic()
            at = raw.get("timeNano")
            # An engine whose clock is ahead tells again what it told before the stream broke.
            if at is None or at > before:
                self._told_at = max(self._told_at, at or 0)
                yield parse(raw, self._project)


def _errors() -> tuple[type[Exception], ...]:
    import requests
    import urllib3
    from docker.errors import DockerException

    return DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError
