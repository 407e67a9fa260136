"""Sick containers on a real engine: what is done about them, and what is not."""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from calm.heal import switches
from calm.heal.model import Remedy
from calm.heal.watch import Watch
from calm.journal import Journal
from calm.settings import Settings
from tests.integration.heal_lab import (
    CRASHING,
    QUICK,
    SICK,
    WELL,
    age,
    heal_once,
    health,
    run,
    settings,
    state,
    wait_for,
)
from tests.lab.engine import Engine

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _use(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)


@pytest.fixture
def project(engine: Engine, unique_name: Callable[[str], str]) -> Iterator[str]:
    """A project of the test's own; its containers go when the test ends."""
    name = unique_name("heal")
    yield name
    left = engine.lines("ps", "-aq", "--filter", f"label=com.docker.compose.project={name}")
    if left:
        engine.docker("rm", "-fv", *left)


@contextmanager
def watching(tree: Settings, root: Path, said: list[str]) -> Iterator[list[Remedy]]:
    """``calm watch`` in a thread."""
    told: list[Remedy] = []
    watch = Watch(tree, root, notice=said.append, tell=told.append, interval=2.0, pace=QUICK)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        wait_for((root / "outputs" / "system_metrics.json").exists, "the first snapshot is not written")
        yield told
    finally:
        watch.stop()
        thread.join(20)
        assert not thread.is_alive()


def _entries(root: Path) -> list[tuple[str, str, str]]:
    journal = Journal(root / "journal.db", notice=print)
    try:
        return [(each.action, each.target, each.result) for each in journal.remedies()]
    finally:
        journal.close()


def _latencies(engine: Engine, tree: Settings, root: Path, names: list[str]) -> list[float]:
    """Seconds from Docker's event to the begin of the act, for each container in turn."""
    with watching(tree, root, []):
        for name in names:
            engine.docker("exec", name, "rm", "/tmp/well")
            target = f"container:{name}"
            wait_for(lambda target=target: _done(root, target), f"{name} is not acted on")  # type: ignore[misc]
    journal = Journal(root / "journal.db", notice=print)
    entries = journal.remedies()
    journal.close()
    assert [entry.target for entry in entries] == [f"container:{name}" for name in names]
    return [entry.at - entry.evidence["event_at"] for entry in entries if "event_at" in entry.evidence]


def _alerts(said: list[str]) -> int:
    return sum(line.startswith("ALERT") for line in said)


def _done(root: Path, target: str) -> bool:
    return any(entry[1:] == (target, "done") for entry in _entries(root))


@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.full)])
def test_an_unhealthy_container_is_acted_on_half_a_second_after_dockers_event(
    engine: Engine, project: str, tmp_path: Path, count: int
) -> None:
    names = [run(engine, project, f"s{number}", WELL) for number in range(count)]
    wait_for(lambda: all(health(engine, name) == "healthy" for name in names), "they do not get healthy")
    latencies = _latencies(engine, settings(tmp_path, project), tmp_path, names)
    # The sweep may be the first to see one of them; by far most come by the event.
    assert len(latencies) >= count - 1
    assert statistics.median(latencies) <= 0.5


def test_without_events_the_sweep_finds_it_and_says_what_helped(
    engine: Engine, project: str, tmp_path: Path
) -> None:
    name = run(engine, project, "redis", WELL)
    wait_for(lambda: health(engine, name) == "healthy", "it does not get healthy")
    tree = settings(tmp_path, project)
    assert heal_once(tree, tmp_path, only="docker").remedies == ()
    engine.docker("exec", name, "rm", "/tmp/well")
    wait_for(lambda: health(engine, name) == "unhealthy", "it does not get unhealthy")
    planned = heal_once(tree, tmp_path, only="docker", dry=True)
    assert [each.result for each in planned.remedies] == ["planned"]
    assert health(engine, name) == "unhealthy"
    (remedy,) = heal_once(tree, tmp_path, only="docker").remedies
    assert (remedy.action, remedy.target, remedy.result) == (
        "restart-container",
        f"container:{name}",
        "done",
    )
    assert "it helped" in remedy.reason
    assert health(engine, name) == "healthy"


def test_a_crash_loop_ends_in_quarantine_and_is_released_when_it_is_mended(
    engine: Engine, project: str, tmp_path: Path
) -> None:
    name = run(engine, project, "api", CRASHING, "--restart", "always", check=False)
    wait_for(lambda: state(engine, name)["Restarts"] >= 2, "it does not loop")
    loop = {"container-crash-looping": {"restarts": 2}}
    tree = settings(tmp_path, project, budget={"acts": 2}, rules=loop)
    results = []
    for _ in range(2):
        wait_for(lambda: state(engine, name)["Status"] == "restarting", "it does not loop any more")
        results += [each.result for each in heal_once(tree, tmp_path, only="docker").remedies]
        age(tmp_path, 60)
        wait_for(lambda: state(engine, name)["Restarts"] >= 2, "it does not loop again")
    assert results == ["failed", "failed"]

    said: list[str] = []
    wait_for(lambda: state(engine, name)["Status"] == "restarting", "it does not loop any more")
    (remedy,) = heal_once(tree, tmp_path, only="docker", said=said).remedies
    assert remedy.result == "quarantined"
    assert any(line.startswith(f"ALERT container:{name}") for line in said)
    # Neither another agent nor the end of the window changes that: it is still sick.
    age(tmp_path, 3600)
    wait_for(lambda: state(engine, name)["Status"] == "restarting", "it does not loop any more")
    assert [each.result for each in heal_once(tree, tmp_path, only="docker").remedies] == ["quarantined"]

    engine.docker("rm", "-f", name)
    run(engine, project, "api", WELL, check=False)
    said.clear()
    assert heal_once(tree, tmp_path, only="docker", said=said).remedies == ()
    assert said == [f"container:{name} is healthy again and released from quarantine"]


def test_an_agent_that_is_started_anew_keeps_the_budget(engine: Engine, project: str, tmp_path: Path) -> None:
    name = run(engine, project, "redis", SICK)
    tree = settings(tmp_path, project, budget={"acts": 1})
    wait_for(lambda: health(engine, name) == "unhealthy", "it does not get unhealthy")
    said: list[str] = []
    for agents in (1, 2):
        with watching(tree, tmp_path, said):
            wait_for(lambda agents=agents: _alerts(said) == agents, "there is no alert")  # type: ignore[misc]
    actions = [entry[0] for entry in _entries(tmp_path)]
    assert actions == ["restart-container", "quarantine"]


def test_a_stopped_container_is_started_after_confirmation_unless_it_is_wanted_stopped(
    engine: Engine, project: str, tmp_path: Path
) -> None:
    name = run(engine, project, "redis", WELL, "--restart", "unless-stopped", check=False)
    tree = settings(tmp_path, project)
    engine.docker("stop", name)
    switches.want_stopped(tmp_path, ("docker",))
    (remedy,) = heal_once(tree, tmp_path, only="docker").remedies
    assert (remedy.result, remedy.reason) == ("deferred", "calm down stopped it; calm up starts it again")
    switches.want_running(tmp_path)
    (remedy,) = heal_once(tree, tmp_path, only="docker").remedies
    assert (remedy.action, remedy.result) == ("start-container", "done")
    assert state(engine, name)["Status"] == "running"


def test_one_that_apply_has_made_and_that_is_gone_is_made_anew_alone(
    engine: Engine, project: str, tmp_path: Path
) -> None:
    labels = {"calm.project": project}
    service = {"image": "redis:7-alpine", "command": ["sleep", "1000000"], "labels": labels}
    services = {
        name: service | {"container_name": f"{project}-{name}", "init": True} for name in ("redis", "other")
    }
    services["redis"] |= {"depends_on": ["other"]}
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "docker-compose.yml").write_text(json.dumps({"services": services}))
    record = {"services": {"redis": {"container": f"{project}-redis"}}}
    (tmp_path / "record.json").write_text(json.dumps(record))
    try:
        (remedy,) = heal_once(settings(tmp_path, project), tmp_path, only="docker").remedies
        assert (remedy.action, remedy.target, remedy.result) == (
            "recreate",
            f"container:{project}-redis",
            "done",
        ), remedy.reason
        names = engine.lines(
            "ps", "--format", "{{.Names}}", "--filter", f"label=com.docker.compose.project={project}"
        )
        assert names == [f"{project}-redis"]
    finally:
        engine.docker("rm", "-f", f"{project}-redis", check=False)
        engine.docker("network", "rm", f"{project}_default", check=False)


def test_others_containers_are_reported_and_never_touched(
    engine: Engine, project: str, tmp_path: Path
) -> None:
    name = run(engine, project, "redis", SICK)
    wait_for(lambda: health(engine, name) == "unhealthy", "it does not get unhealthy")
    started = state(engine, name)["StartedAt"]
    tree = settings(tmp_path, f"{project}-other")
    done = heal_once(tree, tmp_path, only="docker")
    assert done.remedies == ()
    assert ("container-unhealthy", f"container:{name}") in {(f.rule, f.target) for f in done.findings}
    assert state(engine, name)["StartedAt"] == started


def test_a_sick_dependency_holds_what_needs_it(engine: Engine, project: str, tmp_path: Path) -> None:
    postgres = run(engine, project, "postgres", WELL)
    api = run(engine, project, "agent-api", SICK)
    wait_for(lambda: health(engine, postgres) == "healthy", "postgres does not get healthy")
    engine.docker("exec", postgres, "rm", "/tmp/well")
    wait_for(
        lambda: {health(engine, postgres), health(engine, api)} == {"unhealthy"}, "they are not unhealthy"
    )
    remedies = heal_once(settings(tmp_path, project), tmp_path, only="docker").remedies
    assert [(each.target, each.result) for each in remedies] == [
        (f"container:{postgres}", "done"),
        (f"container:{api}", "deferred"),
    ]
    assert "postgres" in remedies[1].reason


def test_pause_and_a_running_apply_hold_everything(engine: Engine, project: str, tmp_path: Path) -> None:
    name = run(engine, project, "redis", SICK)
    wait_for(lambda: health(engine, name) == "unhealthy", "it does not get unhealthy")
    tree, started = settings(tmp_path, project), state(engine, name)["StartedAt"]
    switches.pause(tmp_path, until=None)
    (remedy,) = heal_once(tree, tmp_path, only="docker").remedies
    assert (remedy.result, remedy.reason) == ("deferred", "paused until calm resume")
    switches.resume(tmp_path)
    (tmp_path / ".lock.json").write_text(
        '{"who": "me", "expires": 99999999999, "run": "r1", "created": 0, "lease": 120}'
    )
    (remedy,) = heal_once(tree, tmp_path, only="docker").remedies
    assert (remedy.result, remedy.reason) == ("deferred", "an apply by me is running")
    assert state(engine, name)["StartedAt"] == started


def test_an_oom_kill_is_told_with_a_figure_and_not_restarted_for_ever(
    engine: Engine, project: str, tmp_path: Path
) -> None:
    greedy = "head -c 200m /dev/zero | tail -c 190m | sleep 100"
    limits = ("--memory", "32m", "--memory-swap", "32m")
    name = run(engine, project, "redis", f"exec sh -c '{greedy}; exit 137'", *limits, check=False)
    wait_for(lambda: state(engine, name)["OOMKilled"] or not state(engine, name)["Running"], "it lives on")
    done = heal_once(settings(tmp_path, project), tmp_path, only="docker")
    told = next(each for each in done.findings if each.rule == "container-oom-killed")
    assert told.evidence["suggested_bytes"] == 64 * 2**20
    assert "set docker.redis.memory to 64M" in told.evidence["says"]
    age(tmp_path, 30)
    again = heal_once(settings(tmp_path, project), tmp_path, only="docker")
    acted = [each for each in (*done.remedies, *again.remedies) if each.result in ("done", "failed")]
    assert len(acted) <= 1
