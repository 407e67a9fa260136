"""The agent is pushed by apply, repaired, taken away; its findings show in plan and are healed by apply."""

from __future__ import annotations

import json
import time

import pytest

from tests.integration.conftest import Build
from tests.integration.stack import Result, Stack

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def stack(build: Build) -> Stack:
    whole = build(
        "push",
        agent={"enabled": True},
        docker={"redis": {"health": {"interval": 1, "timeout": 1, "retries": 2}}},
    )
    planned = whole.plan()
    assert planned.code == 2
    assert not (whole.root / "agent").exists(), "a plan installs nothing"
    whole.apply()
    return whole


def agent(stack: Stack, *arguments: str) -> Result:
    calm = str(stack.root / "agent" / "venv" / "bin" / "calm")
    return stack.run([calm, *arguments], env={"CALM_ROOT": str(stack.root)})


def test_the_agent_runs_and_knows_its_host(stack: Stack) -> None:
    result = agent(stack, "check", "--json")
    assert result.code == 0, result.said
    assert stack.plan().code == 0


def test_a_broken_agent_is_named_and_repaired(stack: Stack) -> None:
    (stack.root / "agent" / "venv" / "bin" / "calm").unlink()
    pending = stack.pending()
    assert pending["agent"]["changes"][0]["path"] == "installation"
    assert pending["agent"]["origin"] == "host"
    stack.apply()
    assert agent(stack, "--version").code == 0
    assert stack.plan().code == 0


def test_calm_down_shows_in_plan_and_apply_clears_it(stack: Stack) -> None:
    down = agent(stack, "down")
    assert down.code == 0, down.said
    plan = stack.calm("plan")
    assert plan.code == 2
    assert "calm down" in plan.out
    stack.apply()
    assert not (stack.root / "down.json").exists()
    assert stack.plan().code == 0


def test_a_finding_is_noted_in_plan_and_healed_by_apply(stack: Stack) -> None:
    """A server that hangs: its process is stopped, so that its health check gets no answer."""
    stack.docker("kill", "--signal", "STOP", stack.name("redis"))
    deadline = time.monotonic() + 60
    while stack.inspect("redis")["State"]["Health"]["Status"] != "unhealthy":
        assert time.monotonic() < deadline, "Docker did not call it unhealthy"
        time.sleep(0.5)
    assert agent(stack, "pause").code == 0
    looked = agent(stack, "heal", "--json", "--burst", "2")
    assert "container-unhealthy" in looked.out, looked.said
    assert agent(stack, "resume").code == 0
    assert "container-unhealthy" in stack.calm("plan").out
    stack.docker("update", "--cpus", "0.9", stack.name("postgres"))
    stack.apply()
    assert stack.inspect("redis")["State"]["Health"]["Status"] == "healthy"
    assert json.loads(agent(stack, "journal", "--json").out)


def test_remove_takes_the_agent_away(stack: Stack) -> None:
    result = stack.calm("remove", "--yes")
    assert result.code == 0, result.said
    assert not (stack.root / "agent").exists()
    assert (stack.root / "secrets").exists()
