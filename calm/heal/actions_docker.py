"""What is done about containers of ours: restart, start, recreate. Each act is verified afterwards.

The ladder: restart, then recreate, then leave it and alert. Others' containers are never touched.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calm.heal.arbiter import works
from calm.heal.model import Finding, Outcome
from calm.health import engine
from calm.health.containers import OWNED, SERVICE
from calm.health.project import compose_project

if TYPE_CHECKING:
    from docker import APIClient

    from calm.settings import Settings

STOP_SECONDS = 10
STAYS = 3.0
"""Seconds that a container without a health check has to stay up to count as well again."""

LONGEST = 300.0
"""Seconds after which a container that is still starting counts as not helped."""


class Containers:
    """The acts on this host's containers. Raises nothing: what the engine says is told in the outcome."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self._settings, self._root = settings, root

    def restart(self, finding: Finding, attempt: int) -> Outcome:
        """Restart it; from the second try of a row on, recreate it."""
        return self._guarded(lambda client: self._restart(client, finding, attempt))

    def start(self, finding: Finding, attempt: int) -> Outcome:
        """Start it; from the second try of a row on, recreate it."""
        return self._guarded(lambda client: self._start(client, finding, attempt))

    def recreate(self, finding: Finding) -> Outcome:
        """Make it anew from the Compose file. Never a bare ``up``: that touches its dependencies too."""
        return self._recreate(str(finding.evidence.get("service") or ""), _name(finding))

    def helped(self, finding: Finding, *, began: float, now: float) -> bool | None:
        """Whether it works by now: ``None`` while it is still starting, within its own time for that.

        ``began`` and ``now`` are on one clock.
        """
        try:
            state = self._inspect(engine.connect(), _name(finding))
        except _errors():
            return None if now - began < LONGEST else False
        return None if state is None and now - began < STAYS else _verdict(state, now - began)

    def restart_services(self, names: tuple[str, ...], tell: Callable[[str], None]) -> bool:
        """Restart the containers of these services, in order, each healthy before the next."""
        return all(self._restart_service(name, tell) for name in names)

    # -- inside --------------------------------------------------------------------------------------------

    def _restart(self, client: APIClient, finding: Finding, attempt: int) -> Outcome:
        found = self._ours(client, finding)
        if isinstance(found, Outcome):
            return found
        if works(found["State"]["Status"], _health(found)) and finding.rule == "container-unhealthy":
            return Outcome(result="deferred", says="it is well again by now")
        if attempt > 1 and self._compose_file().is_file():
            return self._recreate(found["Config"]["Labels"].get(SERVICE, ""), _name(finding))
        if found["State"].get("Paused"):
            client.unpause(found["Id"])
        client.restart(found["Id"], timeout=STOP_SECONDS)
        return Outcome(result="done", says="restarted")

    def _start(self, client: APIClient, finding: Finding, attempt: int) -> Outcome:
        found = self._ours(client, finding)
        if isinstance(found, Outcome):
            return found
        if found["State"]["Running"]:
            return Outcome(result="deferred", says="it runs again by now")
        if attempt > 1 and self._compose_file().is_file():
            return self._recreate(found["Config"]["Labels"].get(SERVICE, ""), _name(finding))
        client.start(found["Id"])
        return Outcome(result="done", says="started")

    def _ours(self, client: APIClient, finding: Finding) -> Mapping[str, Any] | Outcome:
        """The container as it is now, if it is still the one that was found and ours."""
        found = self._inspect(client, _name(finding))
        if found is None:
            return Outcome(result="deferred", says="it is gone by now")
        if not found["Id"].startswith(str(finding.evidence.get("id", ""))):
            return Outcome(result="deferred", says="it was replaced meanwhile")
        labels = found["Config"].get("Labels") or {}
        if labels.get(OWNED) != self._settings.docker.project:
            return Outcome(result="deferred", says="it is not calm's, so it is only reported")
        return found

    def _recreate(self, service: str, name: str) -> Outcome:
        file = self._compose_file()
        if not service or not file.is_file():
            return Outcome(
                result="failed", says=f"there is no Compose file {file} with {name} in it: calm apply"
            )
        said = self._compose(["up", "-d", "--no-deps", "--force-recreate", service])
        return said or Outcome(result="done", says="made anew from the Compose file")

    def _compose(self, arguments: list[str]) -> Outcome | None:
        """Run Docker Compose; what went wrong, if something did."""
        file = self._compose_file()
        project = compose_project(self._settings, self._root)
        argv = ["docker", "compose", "-p", project, "-f", str(file), *arguments]
        where = engine.address()
        env = os.environ | ({"DOCKER_HOST": where} if where else {})
        try:
            done = subprocess.run(
                argv, cwd=file.parent, env=env, capture_output=True, text=True, timeout=180, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Outcome(result="failed", says=f"docker compose: {error}")
        if done.returncode == 0:
            return None
        return Outcome(result="failed", says=f"docker compose: {done.stderr.strip()[-300:]}")

    def _compose_file(self) -> Path:
        folder = self._settings.docker.directory
        base = Path(folder).expanduser() if folder else self._root / "docker"
        return base / "docker-compose.yml"

    def _restart_service(self, name: str, tell: Callable[[str], None]) -> bool:
        began = time.monotonic()
        try:
            client = engine.connect(timeout=STOP_SECONDS + 20)
            found = client.containers(all=True, filters={"label": self._labels(name)})
            if not found:
                tell(f"{name}: there is no container of this service; calm apply makes one")
                return False
            client.restart(found[0]["Id"], timeout=STOP_SECONDS)
            well = self._awaited(client, found[0]["Id"], began)
        except _errors() as error:
            tell(f"{name}: {_said(error)}")
            return False
        tell(f"{name}: {'works again' if well else 'does not work'} after {time.monotonic() - began:.1f} s")
        return well

    def _awaited(self, client: APIClient, container: str, began: float) -> bool:
        while True:
            well = _verdict(self._inspect(client, container), time.monotonic() - began)
            if well is not None:
                return well
            time.sleep(0.2)

    def _labels(self, service: str) -> list[str]:
        return [f"{OWNED}={self._settings.docker.project}", f"{SERVICE}={service}"]

    def _inspect(self, client: APIClient, name: str) -> Mapping[str, Any] | None:
        from docker.errors import NotFound

        try:
            found: Mapping[str, Any] = client.inspect_container(name)
        except NotFound:
            return None
        return found

    def _guarded(self, work: Callable[[APIClient], Outcome]) -> Outcome:
        try:
            return work(engine.connect(timeout=STOP_SECONDS + 20))
        except _errors() as error:
            return Outcome(result="failed", says=_said(error))


def _verdict(found: Mapping[str, Any] | None, seconds: float) -> bool | None:
    """Whether a container works ``seconds`` after the act; ``None`` while it is starting."""
    if found is None:
        return False
    state, health = found["State"]["Status"], _health(found)
    if works(state, health):
        return True if health or seconds >= STAYS else None
    if state == "running" and health == "starting":
        return None if seconds < _patience(found) else False
    return False


def _patience(found: Mapping[str, Any]) -> float:
    """Seconds in which its own health check has to come to a verdict."""
    check = found["Config"].get("Healthcheck") or {}
    start, interval = (check.get(name, 0) / 1e9 for name in ("StartPeriod", "Interval"))
    timeout, retries = check.get("Timeout", 0) / 1e9 or 30.0, check.get("Retries") or 3
    return float(min(start + retries * ((interval or 30.0) + timeout) + 5.0, LONGEST))


def _health(found: Mapping[str, Any]) -> str | None:
    health = (found["State"].get("Health") or {}).get("Status")
    return None if health in (None, "none") else str(health)


def _name(finding: Finding) -> str:
    return finding.target.partition(":")[2]


def _errors() -> tuple[type[Exception], ...]:
    import requests
    from docker.errors import DockerException

    return DockerException, requests.RequestException, OSError


def _said(error: Exception) -> str:
    explanation = getattr(error, "explanation", None)
    return f"the Docker engine: {explanation or error}"[:300]
