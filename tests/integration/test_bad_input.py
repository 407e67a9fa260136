"""Bad input of every kind: the right exit code, one clear message with what to do, nothing lost."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Build
from tests.integration.stack import CALM, Stack

pytestmark = pytest.mark.engine


@dataclass(frozen=True, kw_only=True)
class Bad:
    """One bad input. ``arrange`` makes the host or the inventory bad; ``says`` has to stand in the output."""

    name: str
    code: int
    says: tuple[str, ...]
    arrange: Callable[[Stack], None] = lambda _: None
    command: tuple[str, ...] = ("plan",)
    env: dict[str, str] = field(default_factory=dict)


def calm(**settings: Any) -> Callable[[Stack], None]:
    return lambda stack: stack.write(**settings)


def inventory(text: str | None) -> Callable[[Stack], None]:
    def arrange(stack: Stack) -> None:
        stack.inventory.unlink()
        if text is not None:
            stack.inventory.write_text(text)

    return arrange


def root_is_a_file(stack: Stack) -> None:
    stack.root.write_text("mine")


def link_that_leads_out(stack: Stack) -> None:
    outside = stack.folder / "outside"
    outside.mkdir()
    stack.root.mkdir()
    (stack.root / "docker").symlink_to(outside)


def app_yaml(text: str) -> Callable[[Stack], None]:
    def arrange(stack: Stack) -> None:
        stack.root.mkdir()
        (stack.root / "app.yaml").write_text(text)

    return arrange


def studio_settings(text: str) -> Callable[[Stack], None]:
    def arrange(stack: Stack) -> None:
        home = stack.home / ".lmstudio"
        (home / ".internal").mkdir(parents=True)
        (home / "settings.json").write_text(text)

    return arrange


CASES = (
    Bad(
        name="misspelt key",
        code=4,
        says=("calm.docker.redis.memroy", 'did you mean "memory"'),
        arrange=calm(docker={"redis": {"memroy": "1G"}}),
    ),
    Bad(
        name="wrong unit",
        code=4,
        says=("calm.docker.redis.memory", "512 parsecs"),
        arrange=calm(docker={"redis": {"memory": "512 parsecs"}}),
    ),
    Bad(
        name="negative cpus",
        code=4,
        says=("calm.docker.redis.cpus",),
        arrange=calm(docker={"redis": {"cpus": -1}}),
    ),
    Bad(
        name="limit under reservation",
        code=4,
        says=("memory_reserved",),
        arrange=calm(docker={"redis": {"memory": "128M", "memory_reserved": "256M"}}),
    ),
    Bad(
        name="maxmemory over limit",
        code=4,
        says=("maxmemory", "512M", "lower", "raise"),
        arrange=calm(docker={"redis": {"maxmemory": "512M"}}),
    ),
    Bad(
        name="pool larger than max_connections",
        code=4,
        says=("database_pool_size", "max_connections"),
        arrange=calm(docker={"agent_api": {"database_pool_size": 500}}),
    ),
    Bad(
        name="two errors at once",
        code=4,
        says=("calm.docker.redis.cpus", "calm.llm.max_retrys"),
        arrange=calm(docker={"redis": {"cpus": "many"}}, llm={"max_retrys": 1}),
    ),
    Bad(
        name="a secret in the inventory",
        code=4,
        says=("redis_password", "env"),
        arrange=calm(secrets={"redis_password": "hunter2-hunter2"}),
    ),
    Bad(
        name="secret from a variable that is not set",
        code=4,
        says=("NOT_THERE_AT_ALL",),
        arrange=calm(secrets={"redis_password": {"env": "NOT_THERE_AT_ALL"}}),
    ),
    Bad(
        name="data without value", code=4, says=("--data", "KEY=VALUE"), command=("plan", "--data", "docker")
    ),
    Bad(
        name="data with a misspelt key",
        code=4,
        says=("--data", "calm.docker.redis.memroy"),
        command=("plan", "--data", "docker.redis.memroy=1G"),
    ),
    Bad(name="inventory that is missing", code=4, says=("no inventory",), arrange=inventory(None)),
    Bad(name="inventory that is empty", code=3, says=("matches no host",), arrange=inventory("")),
    Bad(
        name="inventory that raises",
        code=4,
        says=("ZeroDivisionError",),
        arrange=inventory("hosts = [1 / 0]"),
    ),
    Bad(name="inventory with a syntax error", code=4, says=("SyntaxError",), arrange=inventory("hosts = [")),
    Bad(
        name="limit that matches nothing",
        code=3,
        says=("--limit nobody", "matches no host", "@local"),
        command=("plan", "--limit", "nobody"),
    ),
    Bad(
        name="only that names nothing", code=64, says=("--only sevice",), command=("plan", "--only", "sevice")
    ),
    Bad(name="misspelt option", code=64, says=("--jsno",), command=("plan", "--jsno")),
    Bad(name="misspelt command", code=64, says=("plna", "plan"), command=("plna",)),
    Bad(name="root is a file", code=1, says=("is a file", "calm.root"), arrange=root_is_a_file),
    Bad(name="a link that leads out", code=1, says=("leads out",), arrange=link_that_leads_out),
    Bad(name="app.yaml is not YAML", code=1, says=("app.yaml",), arrange=app_yaml("llm: [\n")),
    Bad(name="app.yaml is a list", code=1, says=("app.yaml",), arrange=app_yaml("- one\n")),
    Bad(
        name="settings.json is not JSON",
        code=1,
        says=("settings.json",),
        arrange=studio_settings("{ not json"),
    ),
    Bad(
        name="settings.json is not an object",
        code=1,
        says=("settings.json",),
        arrange=studio_settings("[]"),
    ),
    Bad(
        name="the engine is down",
        code=1,
        says=("Docker",),
        env={"DOCKER_HOST": "unix:///nowhere/docker.sock"},
        arrange=calm(docker={"enabled": True}),
    ),
    Bad(
        name="an image that does not exist",
        code=1,
        says=("no-such-image",),
        arrange=calm(docker={"redis": {"image": "calm-test/no-such-image:1"}}),
        command=("apply", "--yes", "--only", "service:redis"),
    ),
    Bad(
        name="apply with no terminal and no yes",
        code=64,
        says=("--yes",),
        command=("apply", "--only", "document:app.yaml"),
    ),
    Bad(
        name="a template with an undefined name is a bug that names itself",
        code=4,
        says=("calm.docker.services",),
        arrange=calm(docker={"services": {"extra": ["not", "a", "mapping"]}}),
    ),
)


@pytest.fixture
def stack(build: Build) -> Stack:
    return build("bad")


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
def test_bad_input_is_told_plainly(stack: Stack, bad: Bad) -> None:
    bad.arrange(stack)
    before = stack.files()
    command, *rest = bad.command
    result = stack.calm(command, *rest, env=bad.env)
    assert result.code == bad.code, result.said
    for words in bad.says:
        assert words in result.said, result.said
    assert "Traceback" not in result.said
    if command != "apply":
        assert stack.files() == before


def test_a_port_of_another_program_is_named(stack: Stack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stack.ports["redis"]))
        taken.listen()
        result = stack.plan()
    assert result.code == 1, result.said
    assert str(stack.ports["redis"]) in result.said


def test_validate_touches_nothing(stack: Stack) -> None:
    before = stack.files()
    result = stack.calm("validate")
    assert result.code == 0, result.said
    assert "valid" in result.out
    assert stack.files() == before


def test_there_is_no_checkout_here(stack: Stack, tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(
        [*CALM, "plan"], cwd=tmp_path, env=stack.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "no checkout" in done.stderr
