"""The containers of the Compose project: made if they are missing, started, stopped, looked at.

Nothing that exists is made anew here: bringing drift back is apply's work.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from calm.onhost.docker_api import Engine
from calm.onhost.errors import EngineRefusalError, UnavailableError
from calm.startup.gates import WELL, Look, healthy, passed
from calm.startup.model import Deadline, Status, StepError

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
LOG_LINES = 10
_CALL_SECONDS = 60
_GONE = 404


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service of the Compose file: what it needs, and whether it has a task to finish (``once``)."""

    name: str
    needs: tuple[str, ...] = ()
    once: bool = False


class Stack:
    """One Compose project, by its name and its file.

    ``answers`` asks a service itself, where that can be: it is well as soon as it says so, and not only at
    Docker's next check of it, up to a second later.
    """

    def __init__(
        self, *, project: str, file: Path, answers: Mapping[str, Callable[[], bool]] | None = None
    ) -> None:
        self._project, self._file, self._answers = project, file, answers or {}
        self._known: dict[str, str] = {}  # service to container, so that looking often costs little

    def services(self) -> dict[str, Service]:
        """The services that the Compose file has by default. Raises :class:`StepError`."""
        whole = json.loads(self._compose("config", "--format", "json", seconds=_CALL_SECONDS))
        services: Mapping[str, Any] = whole.get("services") or {}
        tasks = {
            needed
            for service in services.values()
            for needed, how in (service.get("depends_on") or {}).items()
            if how.get("condition") == "service_completed_successfully"
        }
        return {
            name: Service(name=name, needs=tuple(service.get("depends_on") or ()), once=name in tasks)
            for name, service in services.items()
        }

    def made(self, deadline: Deadline) -> tuple[Status, dict[str, Service]]:
        """Makes the containers, networks and images that are missing, and starts nothing.

        On a new host Compose reads its file and makes everything at the same time, which saves a cold start
        the reading.
        """
        if not self._file.is_file():
            raise StepError(f"there is no {self._file}: run `calm apply` first")
        if self._is_new():
            with ThreadPoolExecutor(max_workers=1) as pool:
                making = pool.submit(self._make, (), deadline)
                services = self.services()
                making.result()
            return Status.STARTED, services
        services = self.services()
        missing = tuple(name for name in services if self.find(name) is None)
        if missing:
            self._make(missing, deadline)
        return (Status.STARTED if missing else Status.RUNNING), services

    def start(self, service: Service, deadline: Deadline, below: Sequence[Service] = ()) -> Status:
        """Starts a service and waits until it is well. Raises :class:`StepError` with its last log lines.

        It is not waited for any longer once one of those ``below``, which it needs, is not well any more.
        """
        found = self.find(service.name)
        if found is None:
            raise StepError(f"it has no container: see `docker compose -f {self._file} ps -a`")
        ran = found["State"]["Status"] == "running" or _is_finished(service, found)
        restarts = found.get("RestartCount", 0)
        try:
            self._bring_up(found, ran)
            passed(lambda: self._look(service, restarts, below), deadline)
        except StepError as error:
            self._quiet(service, started=not ran)
            raise StepError(error.reason, log=error.log or self.log(service.name)) from None
        return Status.RUNNING if ran and not found["State"]["Paused"] else Status.STARTED

    def holds(self, service: Service) -> None:
        """Raises :class:`StepError` if the service is not well now."""
        found = self.find(service.name)
        look = Look(state="failed", why="its container is gone")
        if found is not None:
            look = self._seen(service, found, found.get("RestartCount", 0))
        if look.state != "well":
            raise StepError(look.why, log=self.log(service.name))

    def stop(self, name: str, *, seconds: int | None = None) -> Status:
        """Stops a service; also one that Docker is about to start again.

        It has ``seconds`` to finish; None is its own time, the Compose file's ``stop_grace_period``.
        """
        found = self.find(name)
        if found is None or found["State"]["Status"] in ("exited", "created", "dead"):
            return Status.STOPPED
        if found["State"]["Paused"]:
            self._call("unpause", found)
        self._call("stop", found, **({} if seconds is None else {"t": seconds}))
        return Status.STOPPED

    def find(self, name: str) -> Mapping[str, Any] | None:
        """The engine's inspection of a service's container, or None without one."""
        with _told():
            engine = Engine.found()
            known = _inspected(engine, self._known[name]) if name in self._known else None
            if known is not None:
                return known
            labels = [f"{PROJECT_LABEL}={self._project}", f"{SERVICE_LABEL}={name}"]
            for each in engine.get("/containers/json", all="1", filters={"label": labels}):
                found = _inspected(engine, each["Id"])
                if found is not None:
                    self._known[name] = each["Id"]
                    return found
        return None

    def log(self, name: str) -> tuple[str, ...]:
        """A service's last log lines, or none if they cannot be read."""
        try:
            found = self.find(name)
            if found is None:
                return ()
            with _told():
                text = Engine.found().logs(found["Id"], LOG_LINES)
        except StepError:
            return ()
        return tuple(line.rstrip() for line in text.splitlines() if line.strip())

    # -- inside --------------------------------------------------------------------------------------------

    def _is_new(self) -> bool:
        with _told():
            mine = {"label": [f"{PROJECT_LABEL}={self._project}"]}
            return not Engine.found().get("/containers/json", all="1", filters=mine)

    def _make(self, names: tuple[str, ...], deadline: Deadline) -> None:
        self._compose("create", "--no-recreate", *names, seconds=max(deadline.left, 1))

    def _call(self, act: str, container: Mapping[str, Any], **query: Any) -> None:
        with _told():
            path = f"/containers/{quote(container['Id'])}/{act}"
            Engine.found().call("POST", path, query=query, timeout=_CALL_SECONDS)

    def _bring_up(self, found: Mapping[str, Any], ran: bool) -> None:
        if found["State"]["Paused"]:
            self._call("unpause", found)
        elif not ran:
            self._call("start", found)

    def _look(self, service: Service, restarts: int, below: Sequence[Service]) -> Look:
        for each in below:
            self.holds(each)
        found = self.find(service.name)
        if found is None:
            return Look(state="failed", why="its container is gone")
        return self._seen(service, found, restarts)

    def _seen(self, service: Service, found: Mapping[str, Any], restarts: int) -> Look:
        look = healthy(found, restarts=restarts, once=service.once)
        answers = self._answers.get(service.name)
        unchecked = look.state == "waiting" and found["State"]["Status"] == "running"
        return WELL if unchecked and answers is not None and answers() else look

    def _quiet(self, service: Service, *, started: bool) -> None:
        """Ends a crash loop that this run began; a container that runs stays, to be looked at."""
        if not started:
            return
        try:
            found = self.find(service.name)
            if found is not None and (found.get("RestartCount") or not found["State"]["Running"]):
                self.stop(service.name, seconds=1)
        except StepError:
            return  # the engine is gone, and what is to be told of that is told already

    def _compose(self, *arguments: str, seconds: float) -> str:
        """What ``docker compose`` prints. Raises :class:`StepError` with its last words."""
        argv = ["docker", "compose", "-p", self._project, "-f", str(self._file), *arguments]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
        except FileNotFoundError:
            raise StepError("there is no docker command: install Docker with its Compose plugin") from None
        except subprocess.TimeoutExpired:
            raise StepError(f"`docker compose {arguments[0]}` was not done within {seconds:.0f} s") from None
        if done.returncode != 0:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            last = lines[-1] if lines else f"exit code {done.returncode}"
            raise StepError(f"`docker compose {arguments[0]}` failed: {last}", log=tuple(lines[-LOG_LINES:]))
        return done.stdout


def _inspected(engine: Engine, identity: str) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = engine.get(f"/containers/{identity}/json")
    except EngineRefusalError as error:
        if error.code == _GONE:
            return None
        raise
    return found


def _is_finished(service: Service, found: Mapping[str, Any]) -> bool:
    state = found["State"]
    return service.once and state["Status"] == "exited" and state["ExitCode"] == 0


@contextmanager
def _told() -> Iterator[None]:
    """Turns the engine's errors into a step's."""
    try:
        yield
    except EngineRefusalError as error:
        raise StepError(_plain(str(error))) from None
    except UnavailableError:
        raise StepError("the Docker Engine does not answer any more") from None


def _plain(said: str) -> str:
    """The engine's words without those that only its developers need."""
    for needless in ("failed to create task for container: failed to create shim task: ",
                     "OCI runtime create failed: runc create failed: ",
                     "failed to create shim task: "):  # fmt: skip
        said = said.replace(needless, "")
    said = " ".join(said.split())
    if "port is already allocated" in said or "address already in use" in said:
        return f"a port that it publishes is taken: {said}. `ss -ltnp` shows by whom"
    return said
