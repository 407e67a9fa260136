"""Every kind of drift on a running stack: named by plan, mended by apply, nothing else touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import Build
from tests.integration.stack import Stack
from tests.lab.engine import wait_until
from tests.lab.ports import free_ports

pytestmark = pytest.mark.engine


@dataclass(frozen=True, kw_only=True)
class Case:
    """One drift: how it comes about, which resource and field plan names, what may be recreated."""

    name: str
    inject: Callable[[Stack], None]
    resource: str
    field: str | None
    recreated: frozenset[str] = frozenset()
    origin: str = "host"
    full: bool = False


def compose(stack: Stack) -> Path:
    return stack.root / "docker" / "docker-compose.yml"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old} is not in {path}"
    path.write_text(text.replace(old, new, 1))


def update(service: str, *options: str) -> Callable[[Stack], None]:
    return lambda stack: stack.docker("update", *options, stack.name(service)) and None


def act(verb: str, service: str, *options: str) -> Callable[[Stack], None]:
    return lambda stack: stack.docker(verb, *options, stack.name(service)) and None


def by_hand(service: str, change: Callable[[dict[str, object]], None]) -> Callable[[Stack], None]:
    """Recreate a service with Compose from a changed copy of the rendered file."""

    def inject(stack: Stack) -> None:
        whole = yaml.safe_load(compose(stack).read_text())
        change(whole["services"][service])
        text = json.dumps(whole)
        stack.docker(
            *("compose", "-p", stack.project, "--project-directory", str(compose(stack).parent), "-f", "-"),
            *("up", "-d", "--no-deps", "--force-recreate", service),
            text=text,
        )

    return inject


def environment(service: dict[str, object]) -> None:
    settings = service.setdefault("environment", {})
    assert isinstance(settings, dict)
    settings["LOG_LEVEL"] = "DEBUG"


def one_more_variable(service: dict[str, object]) -> None:
    """Under the same stamp: nothing that is declared differs."""
    settings = service.setdefault("environment", {})
    assert isinstance(settings, dict)
    settings["BY_HAND"] = "1"


def other_image(service: dict[str, object]) -> None:
    service["image"] = "calm-test/redis-other"


def no_health(service: dict[str, object]) -> None:
    service["healthcheck"] = {"disable": True}


def replaced_by_link(stack: Stack) -> None:
    path = compose(stack)
    elsewhere = stack.folder / "elsewhere.yml"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def quota(stack: Stack) -> None:
    """Limits in the CpuQuota form, which docker update cannot turn back."""

    def change(service: dict[str, object]) -> None:
        service.pop("cpus", None)
        service["cpu_quota"] = 50000
        service["cpu_period"] = 100000

    by_hand("redis", change)(stack)


def other_port(stack: Stack) -> None:
    def change(service: dict[str, object]) -> None:
        service["ports"] = [f"127.0.0.1:{free_ports(1)[0]}:6379"]

    by_hand("redis", change)(stack)


def off_network(stack: Stack) -> None:
    networks = stack.inspect("redis")["NetworkSettings"]["Networks"]
    for network in networks:
        stack.docker("network", "disconnect", network, stack.name("redis"))


def orphan(stack: Stack) -> None:
    """A service of earlier settings: applied, then taken out of the inventory."""
    extra = {"image": "redis:7-alpine", "mem_limit": "64m"}
    stack.write(docker={"services": {"extra": extra}})
    stack.apply()
    del stack.settings["docker"]["services"]
    stack.write()


def app_yaml(stack: Stack) -> None:
    edit(stack.root / "app.yaml", "request_timeout: 30", "request_timeout: 300")


def other_secret(name: str) -> Callable[[Stack], None]:
    """Another file in its place, as an editor leaves it: the containers still hold the old one."""

    def inject(stack: Stack) -> None:
        path = stack.root / "secrets" / name
        new = path.with_name("new")
        new.write_text("by-hand-in-the-file-4Tq8")
        new.chmod(0o444)
        new.replace(path)

    return inject


def both_passwords(stack: Stack) -> None:
    """Who uses them gets well only once both servers have theirs again."""
    stack.sql("ALTER ROLE agent_user PASSWORD 'by-hand-4Tq8'")
    stack.redis("CONFIG", "SET", "requirepass", "")


CASES = (
    Case(
        name="line edited",
        inject=lambda stack: edit(compose(stack), "services:", "services:  # by hand"),
        resource="document:compose",
        field=None,
    ),
    Case(
        name="deleted",
        inject=lambda stack: compose(stack).unlink(),
        resource="document:compose",
        field=None,
    ),
    Case(
        name="emptied",
        inject=lambda stack: compose(stack).write_text(""),
        resource="document:compose",
        field=None,
    ),
    Case(
        name="mode changed",
        inject=lambda stack: compose(stack).chmod(0o666),
        resource="document:compose",
        field="mode",
    ),
    Case(name="replaced by a link", inject=replaced_by_link, resource="document:compose", field=None),
    Case(name="app.yaml", inject=app_yaml, resource="document:app.yaml", field="request_timeout"),
    Case(
        name="redis.conf edited",
        inject=lambda stack: edit(stack.root / "docker" / "redis.conf", "allkeys-lru", "noeviction"),
        resource="document:redis.conf",
        field=None,
        recreated=frozenset({"redis"}),
    ),
    Case(name="stopped", inject=act("stop", "redis"), resource="service:redis", field="state"),
    Case(name="killed", inject=act("kill", "agent-api"), resource="service:agent-api", field="state"),
    Case(name="paused", inject=act("pause", "redis"), resource="service:redis", field="state"),
    Case(
        name="removed",
        inject=act("rm", "redis", "-f"),
        resource="service:redis",
        field="state",
        recreated=frozenset({"redis"}),
    ),
    Case(
        name="memory up",
        inject=update("redis", "--memory", "700m", "--memory-swap", "700m"),
        resource="service:redis",
        field="memory",
    ),
    Case(
        name="memory down",
        inject=update("redis", "--memory", "300m", "--memory-swap", "300m"),
        resource="service:redis",
        field="memory",
    ),
    Case(
        name="swap unlimited",
        inject=update("redis", "--memory-swap", "-1"),
        resource="service:redis",
        field="swap",
    ),
    Case(name="cpus", inject=update("redis", "--cpus", "1.5"), resource="service:redis", field="cpus"),
    Case(
        name="restart", inject=update("redis", "--restart", "no"), resource="service:redis", field="restart"
    ),
    Case(name="pids", inject=update("redis", "--pids-limit", "900"), resource="service:redis", field="pids"),
    Case(
        name="quota form",
        inject=quota,
        resource="service:redis",
        field="cpu",
        recreated=frozenset({"redis"}),
    ),
    Case(
        name="other environment",
        inject=by_hand("agent-api", environment),
        resource="service:agent-api",
        field="environment",
        recreated=frozenset({"agent-api"}),
    ),
    Case(
        name="one more variable",
        inject=by_hand("redis", one_more_variable),
        resource="service:redis",
        field="environment.BY_HAND",
        recreated=frozenset({"redis"}),
    ),
    Case(
        name="other image",
        inject=by_hand("redis", other_image),
        resource="service:redis",
        field="image",
        recreated=frozenset({"redis"}),
    ),
    Case(
        name="no health check",
        inject=by_hand("redis", no_health),
        resource="service:redis",
        field="health",
        recreated=frozenset({"redis"}),
    ),
    Case(
        name="off its network",
        inject=off_network,
        resource="service:redis",
        field="network",
        recreated=frozenset({"redis"}),
    ),
    Case(
        name="port moved",
        inject=other_port,
        resource="service:redis",
        field="port",
        recreated=frozenset({"redis"}),
    ),
    Case(
        name="orphan",
        inject=orphan,
        resource="service:extra",
        field=None,
        origin="settings",
        recreated=frozenset({"extra"}),
    ),
    Case(
        name="redis maxmemory",
        inject=lambda stack: stack.redis("CONFIG", "SET", "maxmemory", "10mb") and None,
        resource="service:redis",
        field="maxmemory",
    ),
    Case(
        name="postgres role setting",
        inject=lambda stack: stack.sql("ALTER ROLE agent_user SET work_mem = '1GB'") and None,
        resource="service:postgres",
        field="work_mem",
    ),
    Case(
        name="postgres setting of all roles",
        inject=lambda stack: stack.sql("ALTER ROLE ALL SET work_mem = '1GB'") and None,
        resource="service:postgres",
        field="work_mem",
    ),
    Case(
        name="postgres password",
        inject=lambda stack: stack.sql("ALTER ROLE agent_user PASSWORD 'by-hand-4Tq8'") and None,
        resource="service:postgres",
        field="running.password",
    ),
    Case(
        name="redis without a password",
        inject=lambda stack: stack.redis("CONFIG", "SET", "requirepass", "") and None,
        resource="service:redis",
        field="running.password",
    ),
    Case(
        name="postgres password in its file",
        inject=other_secret("postgres_password"),
        resource="service:postgres",
        field="running.password",
    ),
    Case(
        name="redis password in its file",
        inject=other_secret("redis_password"),
        resource="service:redis",
        field="running.password",
    ),
    Case(
        name="both passwords",
        inject=both_passwords,
        resource="service:agent-api",
        field="running.secrets",
    ),
    Case(
        name="redis with another password",
        inject=lambda stack: stack.redis("CONFIG", "SET", "requirepass", "by-hand-4Tq8") and None,
        resource="service:redis",
        field="running.login",
        recreated=frozenset({"redis"}),
    ),
)


@pytest.fixture(scope="module")
def stack(engine: Any, build: Build) -> Stack:
    engine.docker("tag", "redis:7-alpine", "calm-test/redis-other")
    whole = build("matrix")
    whole.apply()
    return whole


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_drift_is_named_and_mended_alone(stack: Stack, case: Case) -> None:
    case.inject(stack)
    before = stack.alive()

    seen = stack.plan()
    assert seen.code == 2, seen.said
    resources = {item["id"]: item for item in seen.json()["hosts"][0]["resources"]}
    assert case.resource in resources, seen.out
    named = resources[case.resource]
    assert named["origin"] == case.origin, seen.out
    if case.field is not None:
        assert any(case.field in change["path"] for change in named["changes"]), seen.out
    assert "by-hand" not in seen.said.replace("# by hand", "")

    stack.apply()
    after = stack.alive()
    touched = {stack.name(service) for service in case.recreated}
    for name, (identity, _) in before.items():
        if name not in touched:
            assert after[name][0] == identity, f"{name} is another container now"
    again = stack.plan()
    assert again.code == 0, again.said
    wait_until(lambda: not stack.sick(), "not all services are well", 30)


@pytest.mark.full
def test_replicas_are_counted_and_each_is_compared(stack: Stack) -> None:
    """Two are declared; somebody scales to four, changes the second, takes it away."""
    extra = {"image": "redis:7-alpine", "mem_limit": "32m", "scale": 2, "tmpfs": ["/data"]}
    stack.write(docker={"services": {"extra": extra}})
    stack.apply()
    first = f"{stack.project}-extra-1"
    kept = stack.alive()
    up = ("up", "-d", "--no-deps", "--scale", "extra=4", "extra")
    stack.docker("compose", "-p", stack.project, "-f", str(compose(stack)), *up)
    assert _only_change(stack) == ("containers", 4, 2)
    stack.apply()
    assert stack.alive() == kept

    second = f"{stack.project}-extra-2"
    stack.docker("update", "--memory", "40m", "--memory-swap", "40m", second)
    assert _only_change(stack) == (f"{second}.memory", 40 << 20, 32 << 20)
    stack.apply()

    kept = stack.alive()
    stack.docker("rm", "-f", second)
    assert _only_change(stack) == ("containers", 1, 2)
    stack.apply()
    assert stack.alive()[first] == kept[first]
    assert second in stack.alive()

    del stack.settings["docker"]["services"]
    stack.write()
    stack.apply()
    assert not [name for name in stack.alive() if "extra" in name]


def _only_change(stack: Stack) -> tuple[str, object, object]:
    pending = stack.pending()
    assert list(pending) == ["service:extra"], pending
    [change] = pending["service:extra"]["changes"]
    return change["path"], change["before"], change["after"]


def test_a_plan_changes_nothing(stack: Stack) -> None:
    stack.docker("update", "--cpus", "1.1", stack.name("redis"))
    files, containers = stack.files(), stack.alive()
    since = stack.docker("info", "--format", "{{.SystemTime}}")
    assert stack.plan().code == 2
    until = stack.docker("info", "--format", "{{.SystemTime}}")
    events = stack.docker("events", "--since", since, "--until", until, "--format", "{{json .}}").splitlines()
    mine = [event for event in map(json.loads, events) if stack.project in json.dumps(event["Actor"])]
    assert {event["Action"].split(":")[0] for event in mine} <= {
        "exec_create",
        "exec_start",
        "exec_die",
        "health_status",
    }
    assert (stack.files(), stack.alive()) == (files, containers)
    stack.apply()


def test_what_is_not_drift_stays(stack: Stack) -> None:
    stack.sql("ALTER SYSTEM SET max_connections = 99")
    app = stack.root / "app.yaml"
    app.write_text("# mine\nevaluation:\n  depth: 3 # keep\n" + app.read_text())
    stack.docker("run", "-d", "--name", f"{stack.project}-stranger", "redis:7-alpine")
    stack.docker("volume", "create", f"{stack.project}_stray")
    assert stack.plan().code == 0
    stack.apply()
    assert stack.sql("SHOW max_connections") == "50"
    assert "# mine\nevaluation:\n  depth: 3 # keep\n" in app.read_text()
    assert "stranger" in stack.docker("ps", "--format", "{{.Names}}")
    assert f"{stack.project}_stray" in stack.docker("volume", "ls", "-q").split()
