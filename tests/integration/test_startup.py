"""`calm up` and `calm down` on a real engine: in order, healthy, and honest about thirty ways to fail."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.started import POSTGRES, REDIS, Started, cuttable, shell
from tests.lab.engine import Engine, wait_until

pytestmark = pytest.mark.engine

HEALTHY = {"condition": "service_healthy"}
DONE = {"condition": "service_completed_successfully"}
RUNS = {"condition": "service_started"}


@pytest.fixture
def host(
    engine: Engine, tmp_path: Path, unique_name: Callable[[str], str], free_port: Callable[[], int]
) -> Iterator[Started]:
    """A project that is swept at the end."""
    ports = {name: free_port() for name in ("postgres", "redis", "agent-api")}
    started = Started(engine=engine, root=tmp_path / "calm", project=unique_name("up"), ports=ports)
    yield started
    started.sweep()


def _stack(host: Started) -> dict[str, Any]:
    return {
        "postgres": {**POSTGRES, "ports": host.published("postgres", 5432)},
        "redis": {**REDIS, "ports": host.published("redis", 6379)},
        "api": shell("sleep 1000", depends_on={"postgres": HEALTHY, "redis": HEALTHY}),
    }


def test_a_cold_start_an_idle_one_and_an_end(host: Started) -> None:
    host.write(_stack(host))
    cold = host.calm("up")
    assert cold.code == 0, cold.document
    assert cold.statuses == {
        "engine": "running",
        "containers": "started",
        "postgres": "started",
        "redis": "started",
        "api": "started",
    }
    assert [point["ok"] for point in cold.document["endpoints"]] == [True, True]

    before = host.containers()
    again = host.calm("up")
    assert again.code == 0
    assert set(again.statuses.values()) == {"running"}
    after = host.containers()
    assert {name: (each["Id"], each["State"]["StartedAt"]) for name, each in before.items()} == {
        name: (each["Id"], each["State"]["StartedAt"]) for name, each in after.items()
    }

    # The one without a health check: a check that begins while the engine pauses hangs in the frozen cgroup.
    host.engine.docker("pause", after["api"]["Id"])
    assert host.calm("up").step("api")["status"] == "started"

    ended = host.calm("down")
    assert ended.code == 0
    states = {name: each["State"] for name, each in host.containers().items()}
    assert {state["Status"] for state in states.values()} == {"exited"}
    assert states["api"]["FinishedAt"] < states["postgres"]["FinishedAt"]
    assert (host.root / "down.json").is_file()
    warm = host.calm("up")
    assert (warm.code, warm.step("containers")["status"]) == (0, "running")
    assert not (host.root / "down.json").exists()


Services = Callable[[Started], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to fail: the services, which step is to blame, and what its reason has to say."""

    services: Services
    step: str
    says: str
    skipped: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 30
    log: str | None = None


def _below(service: Mapping[str, Any], condition: Mapping[str, str] = RUNS, **api: Any) -> Services:
    """This service as redis, and an api that needs it."""
    return lambda _: {
        "redis": service,
        "api": {**shell("sleep 1000", depends_on={"redis": condition}), **api},
    }


def _check(test: str, **more: Any) -> dict[str, Any]:
    check = {"test": ["CMD-SHELL", test], "interval": "0.1s", "retries": 2, "timeout": "2s"}
    return {"healthcheck": {**check, **more}}


def _published(host: Started) -> dict[str, Any]:
    api = shell("sleep 1000", depends_on={"redis": RUNS})
    return {"redis": {**REDIS, "ports": host.published("redis", 6379)}, "api": api}


ALWAYS = {"restart": "unless-stopped"}
SKIPPED = ("api",)

FAULTS: dict[str, Fault] = {
    "a command that is not there": Fault(
        services=_below({**REDIS, "entrypoint": ["/no/such/program"]}),
        step="redis",
        says="/no/such/program",
        skipped=SKIPPED,
    ),
    "an image that is not there": Fault(
        services=_below({**REDIS, "image": "calm-no-such-image:1", "pull_policy": "never"}),
        step="containers",
        says="calm-no-such-image",
    ),
    "a port that is taken": Fault(
        services=_published, step="redis", says="a port that it publishes is taken", skipped=SKIPPED
    ),
    "a health check that never passes": Fault(
        services=_below(shell("sleep 1000", **_check("echo no luck; false")), HEALTHY),
        step="redis",
        says="its health check fails: no luck",
        skipped=SKIPPED,
    ),
    "a health check that passes once": Fault(
        services=_below(shell("sleep 1000", **_check("[ ! -e /x ] && touch /x", retries=1)), HEALTHY),
        step="redis",
        says="and then not any more",
        skipped=SKIPPED,
    ),
    "a volume that cannot be written": Fault(
        services=_below({**REDIS, "command": ["redis-server", "--dir", "/proc/1", "--appendonly", "yes"]}),
        step="redis",
        says="exit code 1",
        skipped=SKIPPED,
        log="append-only dir",
    ),
    "a dependency that dies while another starts": Fault(
        services=_below(shell("sleep 1.5; echo bye; exit 4"), **_check("sleep 60", timeout="90s")),
        step="redis",
        says="exit code 4",
        failed=("api",),
        log="bye",
    ),
    "a crash loop": Fault(
        services=_below(shell("echo boom; exit 3", **ALWAYS)),
        step="redis",
        says="exit code 3, and Docker starts it again and again",
        skipped=SKIPPED,
        log="boom",
    ),
}

MORE_FAULTS: dict[str, Fault] = {
    "no time left": Fault(
        services=_below(shell("sleep 1000", **_check("sleep 60", timeout="90s")), HEALTHY),
        step="redis",
        says="the time is up: its health check has not passed yet",
        skipped=SKIPPED,
        timeout=2,
    ),
    "a task that fails": Fault(
        services=_below(shell("echo no rows; exit 7"), DONE),
        step="redis",
        says="it ended with exit code 7",
        skipped=SKIPPED,
        log="no rows",
    ),
    "a task that does not end": Fault(
        services=_below(shell("sleep 1000"), DONE),
        step="redis",
        says="its task is not finished",
        skipped=SKIPPED,
        timeout=2,
    ),
    "a service that ends well": Fault(
        services=_below(shell("exit 0")), step="redis", says="it ended with exit code 0", skipped=SKIPPED
    ),
    "a slow crash": Fault(
        services=_below(shell("sleep 0.2; exit 9", **ALWAYS)),
        step="redis",
        says="exit code 9",
        skipped=SKIPPED,
    ),
    "a user that is not there": Fault(
        services=_below({**REDIS, "user": "nobody-here"}),
        step="redis",
        says="nobody-here",
        skipped=SKIPPED,
    ),
    "a folder that is not there": Fault(
        services=_below({**REDIS, "working_dir": "/proc/no/such"}), step="redis", says="", skipped=SKIPPED
    ),
    "a mount that is not there": Fault(
        services=_below(
            {
                **REDIS,
                "volumes": [
                    {
                        "type": "bind",
                        "source": "/no/such/folder",
                        "target": "/x",
                        "bind": {"create_host_path": False},
                    }
                ],
            }
        ),
        step="containers",
        says="/no/such/folder",
    ),
    "a file mounted on a folder": Fault(
        services=_below({**REDIS, "volumes": ["/etc/hostname:/etc"]}), step="redis", says="", skipped=SKIPPED
    ),
    "a health check without its program": Fault(
        services=_below(
            shell("sleep 1000", healthcheck={"test": ["CMD", "/no/probe"], "interval": "0.1s", "retries": 2})
        ),
        step="redis",
        says="/no/probe",
        skipped=SKIPPED,
    ),
    "a health check that takes too long": Fault(
        services=_below(shell("sleep 1000", **_check("sleep 9", timeout="0.2s"))),
        step="redis",
        says="its health check fails",
        skipped=SKIPPED,
    ),
    "a volume that is external and not there": Fault(
        services=_below({**REDIS, "volumes": ["gone:/data"]}),
        step="containers",
        says="calm-no-such-volume",
        more={"volumes": {"gone": {"external": True, "name": "calm-no-such-volume"}}},
    ),
    "a network that is external and not there": Fault(
        services=_below({**REDIS, "networks": ["gone"]}),
        step="containers",
        says="calm-no-such-network",
        more={"networks": {"gone": {"external": True, "name": "calm-no-such-network"}}},
    ),
    "services that need each other": Fault(
        services=lambda _: {
            "redis": shell("sleep 9", depends_on=["api"]),
            "api": shell("sleep 9", depends_on=["redis"]),
        },
        step="containers",
        says="cycle",
    ),
    "a need that is not there": Fault(
        services=lambda _: {"api": shell("sleep 9", depends_on=["nothing"])},
        step="containers",
        says="nothing",
    ),
    "a variable that is not set": Fault(
        services=lambda _: {"api": shell("sleep 9", environment={"A": "${NOT_SET_HERE:?say it}"})},
        step="containers",
        says="say it",
    ),
    "a wrong key": Fault(
        services=lambda _: {"api": shell("sleep 9", memroy="1G")}, step="containers", says="memroy"
    ),
    "more cpus than there are": Fault(
        services=_below(shell("sleep 9", cpus=999)), step="containers", says="CPUs"
    ),
    "a secret without its file": Fault(
        services=_below(shell("sleep 9", secrets=["gone"])),
        step="containers",
        says="no-such-file",
        more={"secrets": {"gone": {"file": "./no-such-file"}}},
    ),
}


def _failed_as_told(host: Started, fault: Fault) -> None:
    host.write(fault.services(host), **fault.more)
    answer = host.calm("up", "--timeout", str(fault.timeout))
    assert answer.code == 5, answer.document
    blamed = answer.step(fault.step)
    assert blamed["status"] == "failed"
    assert fault.says in blamed["reason"]
    assert fault.log is None or fault.log in "\n".join(blamed["log"])
    statuses = answer.statuses
    assert {name: statuses[name] for name in fault.skipped} == dict.fromkeys(fault.skipped, "skipped")
    assert {name for name, status in statuses.items() if status == "failed"} == {fault.step, *fault.failed}
    _no_orphan(host, answer.statuses)


def _no_orphan(host: Started, statuses: Mapping[str, str]) -> None:
    """Nothing restarts for ever, and nothing that was not started runs."""
    states = {name: each["State"]["Status"] for name, each in host.containers().items()}
    assert "restarting" not in states.values()
    assert not [name for name in states if statuses.get(name) == "skipped" and states[name] == "running"]


@pytest.fixture
def _taken(host: Started) -> Iterator[None]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", host.ports["redis"]))
        held.listen()
        yield


@pytest.mark.usefixtures("_taken")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_step_and_reason(host: Started, name: str) -> None:
    _failed_as_told(host, FAULTS[name])


@pytest.mark.full
@pytest.mark.parametrize("name", MORE_FAULTS)
def test_more_faults(host: Started, name: str) -> None:
    _failed_as_told(host, MORE_FAULTS[name])


def test_an_engine_that_stops_half_way_is_what_is_told(host: Started, tmp_path: Path) -> None:
    host.write({"redis": shell("sleep 1000", **_check("sleep 60", timeout="90s"))})
    with cuttable(host.engine, tmp_path) as (address, cut):
        threading.Thread(target=_cut_once_it_runs, args=(host, cut), daemon=True).start()
        answer = host.calm("up", "--timeout", "30", host=address)
    assert answer.code == 5
    assert answer.step("redis")["reason"] == "the Docker Engine does not answer any more"
    assert answer.seconds < 25


def _cut_once_it_runs(host: Started, cut: threading.Event) -> None:
    def runs() -> bool:
        return any(each["State"]["Running"] for each in host.containers().values())

    wait_until(runs, "redis was not started", 30)
    cut.set()


def test_an_engine_that_is_not_there_is_the_first_step_to_fail(host: Started, tmp_path: Path) -> None:
    host.write(_stack(host))
    answer = host.calm("up", host=f"unix://{tmp_path}/none.sock")
    assert (answer.code, answer.statuses) == (5, {"engine": "failed", "containers": "skipped"})
    assert "DOCKER_HOST" in answer.step("engine")["reason"]


def test_without_a_compose_file_apply_is_named(host: Started) -> None:
    host.write({})
    (host.root / "docker" / "docker-compose.yml").unlink()
    answer = host.calm("up")
    assert (answer.code, answer.statuses["containers"]) == (5, "failed")
    assert "calm apply" in answer.step("containers")["reason"]


API = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"status": "healthy"}).encode())
http.server.HTTPServer(("0.0.0.0", 5000), Handler).serve_forever()
"""


def test_an_agent_api_is_well_as_soon_as_it_says_so(host: Started) -> None:
    slow = {"test": ["CMD", "true"], "interval": "60s"}
    api = {"image": "python:3.12-slim", "entrypoint": ["python3", "-c", API], "stop_grace_period": "0s"}
    host.write({"agent-api": {**api, "ports": host.published("agent-api", 5000), "healthcheck": slow}})
    answer = host.calm("up")
    assert (answer.code, answer.statuses["agent-api"]) == (0, "started"), answer.document
    assert host.containers()["agent-api"]["State"]["Health"]["Status"] == "starting"


def test_a_task_runs_before_what_waits_for_it_and_is_not_repeated(host: Started) -> None:
    host.write({"task": shell("sleep 0.3"), "api": shell("sleep 1000", depends_on={"task": DONE})})
    assert host.calm("up").statuses["task"] == "started"
    assert host.calm("up").statuses == dict.fromkeys(("engine", "containers", "task", "api"), "running")


def test_doctor_names_a_taken_port_and_says_what_is_there(host: Started) -> None:
    host.write(_stack(host))
    with socket.socket() as held:
        held.bind(("127.0.0.1", host.ports["redis"]))
        held.listen()
        answer = host.calm("doctor")
    found = {(each["name"], each["level"]): each for each in answer.document["checks"]}
    assert str(host.ports["redis"]) in found["port", "failure"]["says"]
    assert found["engine", "ok"]["says"].startswith("Docker Engine")
    assert {"compose", "disk", "clock", "stack"} <= {name for name, _ in found}
    assert answer.code == 1
