"""Fixtures that all tests share: a Docker Engine that is nobody else's, hosts on it, names and ports."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab import engine as lab
from tests.lab import hosts, images, leftovers
from tests.lab.engine import Engine
from tests.lab.errors import UnavailableError
from tests.lab.ports import free_ports

_counter = itertools.count(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long counts, unless CALM_FULL=1 or `-m` asks for them."""
    if os.environ.get("CALM_FULL") == "1" or "full" in config.option.markexpr:
        return
    full = [item for item in items if item.get_closest_marker("full")]
    if full:
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in full]


@pytest.fixture(autouse=True)
def _marked_tests_need_the_engine(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("engine") or request.node.get_closest_marker("host"):
        request.getfixturevalue("engine")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine with the stack's images: the lab's own, or with CALM_USE_ENGINE=1 the one that runs here.

    Where there can be none, its tests are skipped with the reason; with CALM_REQUIRE_DOCKER=1 they fail. At
    the end nothing of this run may be left on it. It is stopped if this run started it and no other uses it.
    """
    try:
        running, ours = _machines_engine() if os.environ.get("CALM_USE_ENGINE") == "1" else _labs_engine()
    except UnavailableError as reason:
        if os.environ.get("CALM_REQUIRE_DOCKER") == "1":
            pytest.fail(
                f"CALM_REQUIRE_DOCKER=1, but there is no Docker Engine for tests: {reason}", pytrace=False
            )
        pytest.skip(f"no Docker Engine for tests: {reason}")
    try:
        with lab.in_use():
            leftovers.of_dead_runs(running)
            yield running
            left = leftovers.of_this_run(running)
    finally:
        if ours and not lab.is_in_use():
            lab.down()
    assert not left, f"tests left on the engine, now removed: {', '.join(left)}"


@pytest.fixture(scope="session")
def unique_name() -> Callable[[str], str]:
    """Names for containers, volumes, networks and projects: `unique_name("redis")` → `calm-t4711-3-redis`."""
    return lambda what: f"{leftovers.PREFIX}{next(_counter)}-{what}"


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """TCP ports that are free and that no other test run on this machine is given."""
    return lambda: free_ports(1)[0]


@pytest.fixture(scope="session")
def host_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SSH key of this run's lab hosts."""
    return hosts.key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def lab_host(
    engine: Engine, host_key: Path, unique_name: Callable[[str], str]
) -> Iterator[Callable[..., hosts.Host]]:
    """Starts hosts with systemd, sshd and an engine of their own: `lab_host("gpu-1", preload=images.STACK)`.

    They are gone when the test ends; a module that wants to keep one uses tests.lab.hosts itself.
    """
    started: list[str] = []

    def start(what: str = "host", preload: Sequence[images.Image] = ()) -> hosts.Host:
        started.append(unique_name(what))
        return hosts.start(engine, started[-1], key=host_key, preload=preload)

    try:
        yield start
    finally:
        for name in started:
            hosts.destroy(engine, name)


def _labs_engine() -> tuple[Engine, bool]:
    running, ours = lab.up()
    images.ensure(running, *images.STACK)
    return running, ours


def _machines_engine() -> tuple[Engine, bool]:
    """The engine of the docker command's context; its images come from its registry, our API aside."""
    if shutil.which("docker") is None:
        raise UnavailableError("CALM_USE_ENGINE=1, but there is no docker command here")
    endpoint = "{{.Endpoints.docker.Host}}"
    shown = subprocess.run(
        ["docker", "context", "inspect", "-f", endpoint], capture_output=True, text=True, check=False
    )
    address = os.environ.get("DOCKER_HOST") or shown.stdout.strip()
    running = Engine(socket=address.removeprefix("unix://"))
    if not address.startswith("unix://") or not running.answers():
        raise UnavailableError(f"CALM_USE_ENGINE=1, but no engine answers at {address or 'any address'}")
    images.ensure_api(running)
    return running, False
