"""What a snapshot sees of containers, on a real engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from calm.heal.events import Stream
from calm.health import cgroups, containers
from calm.health import engine as way
from calm.health.containers import Kept, Look, Memory
from calm.health.model import Container
from calm.health.snapshot import take
from calm.settings import Settings
from tests.lab.engine import Engine
from tests.lab.lmstudio import wait_until

pytestmark = pytest.mark.engine

IMAGE = "python:3.12-slim"
EMPTY = Memory(containers={}, listed_at=float("-inf"), version="", asked_at=0.0)
SPIN = "while True: pass"


@pytest.fixture(autouse=True)
def _its_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """calm finds the test's engine as it finds any."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)


@pytest.fixture
def run(engine: Engine, unique_name: Callable[[str], str]) -> Iterator[Callable[..., str]]:
    """Starts containers that are gone when the test ends: ``run("name", "--memory", "64m", code=…)``."""
    started: list[str] = []

    def start(what: str, *options: str, code: str = "import time; time.sleep(600)") -> str:
        started.append(unique_name(what))
        engine.docker("run", "-d", "--init", "--name", started[-1], *options, IMAGE, "python3", "-c", code)
        return started[-1]

    yield start
    if started:
        engine.docker("rm", "-f", "-v", *started)


def seen(name: str, before: Memory | None = None, window: float = 0.4) -> tuple[Container, Look]:
    """One container as a look shows it, and the look."""
    look = containers.look(before, wait=lambda: time.sleep(window))
    assert look.containers is not None, look.docker.error
    return next(each for each in look.containers if each.name == name), look


def test_limits_and_use_of_a_container_that_spins(run: Callable[..., str]) -> None:
    limits = ("--memory", "128m", "--memory-swap", "128m", "--cpus", "0.25", "--restart", "unless-stopped")
    labels = ("--label", "com.docker.compose.project=mine", "--label", "com.docker.compose.service=redis")
    name = run("spins", *limits, *labels, "--label", "calm.project=mine", code=SPIN)

    found, look = seen(name, window=1.0)

    assert (look.docker.reachable, look.docker.status) == (True, "answers")
    assert (found.state, found.health, found.restarts, found.oom_killed) == ("running", None, 0, False)
    assert (found.project, found.service, found.owned, found.restart_policy) == (
        "mine",
        "redis",
        True,
        "unless-stopped",
    )
    assert (found.memory_limit_bytes, found.cpus_limit) == (128 * 1024**2, 0.25)
    assert found.cpu_percent is not None
    assert 5 < found.cpu_percent < 40
    assert found.memory_bytes is not None
    assert 1_000_000 < found.memory_bytes < 128 * 1024**2
    assert found.started_at == pytest.approx(time.time(), abs=60)
    assert found.pids is not None
    assert (found.throttled_percent or 0) > 20


def test_what_the_engine_says_is_what_the_kernels_files_say(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = run("both", "--memory", "128m")
    files, _ = seen(name)
    monkeypatch.setattr(cgroups, "folders", lambda *_: {})
    asked, _ = seen(name)

    assert asked.memory_bytes == pytest.approx(files.memory_bytes, rel=0.3)
    assert asked.cpu_percent is not None
    assert asked.pids == files.pids


def test_page_cache_does_not_count(run: Callable[..., str]) -> None:
    code = "import time; open('/x', 'wb').write(bytes(60_000_000)); open('/x').read(); time.sleep(600)"
    name = run("cache", "--memory", "256m", code=code)
    wait_until(lambda: (seen(name, window=0.2)[0].cpu_percent or 0) < 5, "it does not come to rest")

    found, _ = seen(name)
    assert (found.memory_bytes or 0) < 40_000_000


def test_health_turns_and_the_next_look_knows(run: Callable[..., str], engine: Engine) -> None:
    check = ("--health-cmd", "test ! -e /sick", "--health-interval", "0.3s", "--health-retries", "2")
    name = run("health", *check, "--health-timeout", "5s", "--health-start-period", "30s")
    wait_until(lambda: seen(name, EMPTY)[0].health == "healthy", "it does not get healthy")
    healthy, look = seen(name, EMPTY)
    engine.docker("exec", name, "touch", "/sick")
    wait_until(lambda: seen(name, look.memory)[0].health == "unhealthy", "it does not get sick", timeout=60)
    sick, _ = seen(name, look.memory)

    assert (healthy.start_period_seconds, healthy.failing_streak) == (30.0, 0)
    assert (sick.failing_streak or 0) >= 2
    assert sick.health_since == pytest.approx(time.time(), abs=60)


def test_a_restart_between_two_looks_is_seen(run: Callable[..., str], engine: Engine) -> None:
    name = run("again", code=SPIN)
    before, look = seen(name)
    engine.docker("restart", "-t", "0", name)
    after, _ = seen(name, look.memory)

    assert (after.started_at or 0) > (before.started_at or 0)
    assert after.cpu_percent is None


def test_stopped_killed_and_removed(run: Callable[..., str], engine: Engine) -> None:
    stopped = run("stopped", code="raise SystemExit(3)")
    hungry = run("hungry", "--memory", "32m", "--memory-swap", "32m", code="x = bytearray(200_000_000)")
    removed = run("removed")
    _, look = seen(removed)
    engine.docker("rm", "-f", removed)
    wait_until(lambda: seen(hungry, EMPTY)[0].state == "exited", "it is not killed")
    wait_until(lambda: seen(stopped, EMPTY)[0].state == "exited", "it does not end")

    ended, _ = seen(stopped, look.memory)
    killed, after = seen(hungry, look.memory)

    assert (ended.exit_code, ended.oom_killed, ended.cpu_percent, ended.memory_bytes) == (
        3,
        False,
        None,
        None,
    )
    assert (killed.exit_code, killed.oom_killed) == (137, True)
    assert removed not in [each.name for each in after.containers or ()]


def test_an_engine_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    down = containers.look()
    monkeypatch.setenv("PATH", str(tmp_path))
    absent = containers.look()

    assert (down.containers, down.docker.reachable, down.docker.status) == (None, False, "down")
    assert absent.docker.status == "absent"
    assert way.address() == f"unix://{tmp_path}/none.sock"


def test_a_snapshot_has_them_and_a_second_one_costs_little(run: Callable[..., str], tmp_path: Path) -> None:
    names = {run(f"many{number}") for number in range(3)}
    settings = Settings.model_validate(
        {"root": str(tmp_path), "lmstudio": {"enabled": False}, "docker": {"agent_api": {"enabled": False}}}
    )

    first = take(settings, window=0.2)
    second = take(settings, previous=first)

    assert names <= {each.name for each in second.containers or ()}
    assert all(each.cpu_percent is not None for each in second.containers or () if each.name in names)
    assert (second.docker.version or "").split(".")[0].isdigit()
    assert [each.name for each in second.endpoints] == ["postgres", "redis"]


def test_the_stream_says_whether_anything_has_changed(run: Callable[..., str], engine: Engine) -> None:
    name = run("changing")
    stream = Stream(Settings(), lambda _: None, lambda _: None)
    before_it_joined = time.monotonic()
    assert not stream.unchanged_since(before_it_joined)
    stream.start()
    try:
        wait_until(lambda: stream.unchanged_since(time.monotonic()), "the stream is not joined")
        joined = time.monotonic()
        assert not stream.unchanged_since(before_it_joined)
        engine.docker("pause", name)
        wait_until(lambda: not stream.unchanged_since(joined), "the change was not told")
        assert stream.unchanged_since(time.monotonic())
        engine.docker("unpause", name)
    finally:
        stream.close()
        stream.join(5)
    assert not stream.unchanged_since(time.monotonic())


def _memory(status: str, *, age: float = 1.0, stuck: bool = False) -> Memory:
    now = time.monotonic()
    kept = Kept(
        listed={"Id": "a", "State": "running", "Names": ["/a"], "Status": status},
        inspected={},
        inspected_at=now,
        folders={},
        usage=cgroups.Usage(),
        at=now,
        stuck=stuck,
    )
    return Memory(containers={"a": kept}, listed_at=now - age, version="1", asked_at=now)


def test_while_nothing_has_changed_containers_are_sampled_and_not_listed(
    run: Callable[..., str], engine: Engine
) -> None:
    """A new name that nobody tells of shows whether the list was asked for."""
    name = run("settled")
    memory = containers.look().memory
    assert memory is not None
    settled = replace(memory, containers={each: _aged(kept) for each, kept in memory.containers.items()})
    engine.docker("rename", name, f"{name}-renamed")
    try:
        untold = containers.look(settled, unchanged=lambda _: True)
        told = containers.look(settled, unchanged=lambda _: False)
    finally:
        engine.docker("rename", f"{name}-renamed", name)

    assert name in (seen := {each.name: each for each in untold.containers or ()})
    assert f"{name}-renamed" in {each.name for each in told.containers or ()}
    assert seen[name].cpu_percent is not None
    assert untold.memory is not None
    assert untold.memory.listed_at == memory.listed_at
    assert told.memory is not None
    assert told.memory.listed_at > memory.listed_at


def _aged(kept: Kept) -> Kept:
    """As a container that was started long ago is listed."""
    return replace(kept, listed={**kept.listed, "Status": "Up 5 minutes"})


def test_the_last_list_holds_only_while_nothing_can_have_changed() -> None:
    quiet = _memory("Up 5 minutes (healthy)")

    assert quiet.holds(lambda _: True)
    assert not quiet.holds(lambda _: False)
    assert not _memory("Up 5 minutes", age=containers.RELISTED).holds(lambda _: True)
    assert not _memory("Restarting (1) 3 seconds ago").holds(lambda _: True)
    assert not _memory("Up 5 minutes", stuck=True).holds(lambda _: True)
