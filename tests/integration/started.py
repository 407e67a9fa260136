"""A host for tests of a start: a root with settings and a Compose file of its own on the lab's engine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from calm.settings import Settings
from calm.settings.dump import to_json
from tests.lab.engine import Engine

CALM = str(Path(sys.executable).parent / "calm")

QUICK = {"interval": "0.2s", "timeout": "2s", "retries": 3, "start_period": "20s"}
POSTGRES: Mapping[str, Any] = {
    "image": "postgres:15-alpine",
    "environment": {"POSTGRES_USER": "agent_user", "POSTGRES_PASSWORD": "x", "POSTGRES_DB": "agent_system"},
    "healthcheck": {"test": ["CMD-SHELL", "pg_isready -U agent_user -h 127.0.0.1"], **QUICK},
    "restart": "unless-stopped",
}
REDIS: Mapping[str, Any] = {
    "image": "redis:7-alpine",
    "healthcheck": {"test": ["CMD-SHELL", "redis-cli ping | grep -q PONG"], **QUICK},
    "restart": "unless-stopped",
}


def shell(script: str, **more: Any) -> dict[str, Any]:
    """A service that runs a shell script."""
    return {"image": "redis:7-alpine", "entrypoint": ["sh", "-c", script], "stop_grace_period": "0s", **more}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How `calm up --json` or another command ended."""

    code: int
    document: Any
    err: str
    seconds: float

    def step(self, name: str) -> Mapping[str, Any]:
        """The outcome of one step."""
        found: Mapping[str, Any] = next(step for step in self.document["steps"] if step["step"] == name)
        return found

    @property
    def statuses(self) -> dict[str, str]:
        """Every step's status."""
        return {step["step"]: step["status"] for step in self.document["steps"]}


@dataclass(kw_only=True)
class Started:
    """One project on the lab's engine."""

    engine: Engine
    root: Path
    project: str
    ports: Mapping[str, int]
    volumes: list[str] = field(default_factory=list)

    def write(self, services: Mapping[str, Any], **more: Any) -> None:
        """Write the settings and the Compose file; published ports are those of this project."""
        api = {"port": self.ports["agent-api"]} if "agent-api" in services else {"enabled": False}
        docker = {"project": self.project, "agent_api": api}
        docker |= {name: {"port": self.ports[name]} for name in ("postgres", "redis")}
        settings = {"root": str(self.root), "docker": docker, "lmstudio": {"enabled": False}}
        (self.root / "docker").mkdir(parents=True, exist_ok=True)
        document = to_json(Settings.model_validate(settings))
        (self.root / "settings.json").write_text(json.dumps(document))
        compose = yaml.safe_dump({"services": services, **more})
        (self.root / "docker" / "docker-compose.yml").write_text(compose)

    def published(self, name: str, inner: int) -> list[str]:
        """The `ports` of a service."""
        return [f"127.0.0.1:{self.ports[name]}:{inner}"]

    def calm(self, *arguments: str, host: str | None = None) -> Answer:
        """Run a command with --json."""
        began = time.monotonic()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("CALM_", "DOCKER_"))}
        env = {**kept, **self.engine.env, "HOME": str(self.root), "NO_COLOR": "1"}
        env |= {"DOCKER_HOST": host} if host else {}
        argv = [CALM, *arguments, "--settings", str(self.root / "settings.json"), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=180, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return Answer(
            code=done.returncode,
            document=json.loads(done.stdout),
            err=done.stderr,
            seconds=time.monotonic() - began,
        )

    def containers(self) -> dict[str, Mapping[str, Any]]:
        """The project's containers by service, inspected."""
        label = f"label=com.docker.compose.project={self.project}"
        ids = self.engine.docker("ps", "-aq", "--filter", label).stdout.split()
        found = json.loads(self.engine.docker("inspect", *ids).stdout) if ids else []
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}

    def sweep(self) -> None:
        """Take all of it away again."""
        for each in self.containers().values():
            self.engine.docker("rm", "-f", "-v", each["Id"], check=False)
        label = f"label=com.docker.compose.project={self.project}"
        for kind in ("network", "volume"):
            for name in self.engine.docker(kind, "ls", "-q", "--filter", label).stdout.split():
                self.engine.docker(kind, "rm", name, check=False)


@contextlib.contextmanager
def cuttable(engine: Engine, folder: Path) -> Iterator[tuple[str, threading.Event]]:
    """A way to the engine that an event cuts: the engine that stops half way, for whoever goes this way."""
    cut, path = threading.Event(), folder / "engine.sock"
    pipes: list[socket.socket] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(engine.socket)
                pipes.extend((client, server))
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    def watch() -> None:
        cut.wait()
        path.unlink(missing_ok=True)
        for each in (listener, *pipes):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    threads = [threading.Thread(target=target, daemon=True) for target in (serve, watch)]
    for thread in threads:
        thread.start()
    try:
        yield f"unix://{path}", cut
    finally:
        cut.set()
        threads[1].join(5)
