"""Containers of an engine that does not answer for every one of them.

The engine here is a socket with a few recorded answers: a real one cannot be made to hang over one container.
"""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from calm.health import containers
from calm.health.containers import Look
from calm.health.model import Container

LABELS = {"com.docker.compose.project": "mine", "com.docker.compose.service": "redis", "calm.project": "mine"}
FINE, STUCK, GONE = "a" * 64, "b" * 64, "c" * 64
LAST = "d" * 64
LISTED = [
    {"Id": FINE, "Names": ["/fine"], "State": "exited", "Status": "Exited (0) 2 hours ago"},
    {"Id": GONE, "Names": ["/gone"], "State": "exited", "Status": "Exited (1) 2 hours ago"},
    {
        "Id": STUCK,
        "Names": ["/stuck"],
        "State": "running",
        "Status": "Up 3 seconds (unhealthy)",
        "Labels": LABELS,
    },
    {"Id": LAST, "Names": ["/last"], "State": "exited", "Status": "Exited (0) 2 hours ago"},
]
INSPECTED = {
    "Id": FINE,
    "Name": "/fine",
    "RestartCount": 4,
    "State": {"Status": "exited", "Running": False, "OOMKilled": False, "ExitCode": 0, "Pid": 0},
    "Config": {"Labels": {}, "Image": "x"},
    "HostConfig": {"Memory": 0, "CpuQuota": 150_000, "CpuPeriod": 100_000},
}


class Socket(socketserver.ThreadingUnixStreamServer):
    """An engine's socket."""

    daemon_threads = True
    asked: list[str]
    silence: threading.Event


class Handler(BaseHTTPRequestHandler):
    """The few answers."""

    server: Socket

    def do_GET(self) -> None:
        """Answer, but never for the one that is stuck."""
        path = self.path.split("?")[0].removeprefix("/v1.45")
        self.server.asked.append(path)
        if STUCK in path:
            self.server.silence.wait()
            return
        known = {
            "/version": {"ApiVersion": "1.45", "Version": "26.1.5"},
            "/containers/json": LISTED,
            f"/containers/{FINE}/json": INSPECTED,
            f"/containers/{LAST}/json": {**INSPECTED, "Id": LAST, "Name": "/last"},
        }
        body = json.dumps(known.get(path, {"message": "No such container"})).encode()
        self.send_response(200 if path in known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """A socket file has no address."""
        return "engine"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Socket]:
    """The engine that calm finds."""
    with Socket(str(tmp_path / "docker.sock"), Handler) as server:
        server.asked, server.silence = [], threading.Event()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.silence.set()
        server.shutdown()


def by_name(look: Look) -> dict[str, Container]:
    """The containers that a look shows."""
    assert look.containers is not None, look.docker.error
    return {each.name: each for each in look.containers}


@pytest.mark.usefixtures("engine")
def test_one_that_the_engine_does_not_answer_for_hides_no_other() -> None:
    began = time.monotonic()
    look = containers.look(timeout=1)
    took = time.monotonic() - began

    seen = by_name(look)
    assert set(seen) == {"fine", "stuck", "last"}
    assert (seen["fine"].restarts, seen["fine"].exit_code, seen["fine"].cpus_limit) == (4, 0, 1.5)
    assert seen["fine"].memory_limit_bytes is None
    stuck = seen["stuck"]
    assert (stuck.stuck, stuck.state, stuck.health, stuck.service) == (True, "running", "unhealthy", "redis")
    assert (stuck.owned, stuck.restarts, stuck.cpu_percent, stuck.memory_bytes) == (True, None, None, None)
    assert took < 2.5


def test_it_is_not_asked_for_again_at_every_look_but_those_behind_it_are(engine: Socket) -> None:
    first = containers.look(timeout=1)
    began = time.monotonic()
    second = containers.look(first.memory, timeout=1)

    assert time.monotonic() - began < 0.8
    assert by_name(first)["last"].stuck
    assert not by_name(second)["last"].stuck
    assert by_name(second)["stuck"].stuck
    assert engine.asked.count(f"/containers/{STUCK}/json") == 1
    assert engine.asked.count(f"/containers/{FINE}/json") == 1
