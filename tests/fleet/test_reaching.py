"""What ends the reaching of hosts early, while one of them does not even answer who knocks."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from calm.fleet.connection import CONNECT_SECONDS
from tests.fleet.machines import Fleet, deaf
from tests.lab import hosts

pytestmark = pytest.mark.host


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Fleet]:
    with deaf() as port:
        made = Fleet(folder=tmp_path, key=hosts.key_pair(tmp_path / "keys"))
        for name in ("gone-1", "gone-2"):
            made.add(name, "127.0.0.1", trusted=False, ssh_port=port)
        yield made


@pytest.mark.parametrize("command", [("plan",), ("apply", "--yes")], ids=" ".join)
def test_wrong_settings_are_told_before_a_dead_host_is_given_up(
    silent: Fleet, command: tuple[str, ...]
) -> None:
    silent.write(rooot="/x")
    began = time.monotonic()
    result = silent.calm(*command)
    assert time.monotonic() - began < CONNECT_SECONDS
    assert (result.code, result.out) == (4, ""), result.said
    assert "calm.rooot" in result.err
    assert "Traceback" not in result.err


def test_an_interrupt_is_heard_while_hosts_are_waited_for(silent: Fleet) -> None:
    process = silent.started("plan")
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    try:
        said, _ = process.communicate(timeout=CONNECT_SECONDS / 2)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 130, said
    assert "Traceback" not in said
