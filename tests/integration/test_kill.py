"""kill -9 of apply at any moment: no half-written file, no stuck lock, and the next apply converges."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import Build
from tests.integration.stack import CALM, CHECKOUT, Stack

pytestmark = pytest.mark.engine

FULL = os.environ.get("CALM_FULL") == "1"
MOMENTS = 20 if FULL else 4


@pytest.fixture(scope="module")
def stack(build: Build) -> Stack:
    whole = build("kill")
    whole.apply()
    return whole


@pytest.mark.parametrize("number", range(MOMENTS))
def test_apply_killed_at_a_moment(stack: Stack, number: int) -> None:
    stack.write(
        docker={"redis": {"cpus": round(0.3 + number / 100, 2)}, "logging": {"max_file": 2 + number % 2}}
    )
    (stack.root / "docker" / "redis.conf").write_text("# drift\n")
    (stack.root / "app.yaml").write_text("mine: true\n")
    moment = random.Random(number).uniform(0.5, 6.0)
    step = _killed_after(stack, moment)
    print(f"killed after {moment:.2f} s, {step}")
    assert not [path for path in stack.root.rglob("*") if path.is_file() and not _whole(path)]
    result = stack.apply()
    assert result.code == 0, result.said
    assert stack.plan().code == 0
    assert yaml.safe_load((stack.root / "app.yaml").read_text())["mine"] is True


def _killed_after(stack: Stack, seconds: float) -> str:
    """Kill apply and what it started; the last line that it had printed tells the step."""
    run = subprocess.Popen(
        [*CALM, "apply", str(stack.inventory), "--yes"],
        cwd=CHECKOUT,
        env=stack.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + seconds
    while run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    ended = run.poll() is not None
    try:
        os.killpg(run.pid, signal.SIGKILL)
    except ProcessLookupError:
        ended = True
    lines = run.communicate()[0].splitlines()
    return f"{'it had ended' if ended else 'after'}: {lines[-1] if lines else 'nothing printed'}"


def _whole(path: Path) -> bool:
    """Whether a document that calm writes can be parsed as what it is."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.name.startswith(".calm-"):
        return True
    if path.suffix == ".json":
        return isinstance(json.loads(text), dict)
    if path.suffix == ".yml":
        return "services" in (yaml.safe_load(text) or {})
    return True
