"""An apply that is cut short: Ctrl-C, kill -9, a connection that breaks, a network that is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from tests.fleet.machines import Fleet, healthy, root_of
from tests.lab.engine import wait_until

pytestmark = pytest.mark.host

NAMES = {"agent-system-postgres", "agent-system-redis", "agent-system-api"}


def _begun(fleet: Fleet) -> subprocess.Popen[str]:
    """An apply that has taken the lock of gpu-1 and has services to start there, which takes a while."""
    for host in fleet.whole.values():
        host.docker("kill", "agent-system-redis", "agent-system-api", check=False)
    run = fleet.started("apply", "--yes")
    wait_until(lambda: _working(fleet) or run.poll() is not None, "apply did not begin", 60)
    assert run.poll() is None, run.communicate()[0]
    return run


def _working(fleet: Fleet) -> bool:
    shown = fleet.whole["gpu-1"].docker("ps", "--format", "{{.Names}}").stdout
    return "agent-system-redis" in shown and _lock(fleet) is not None


def _lock(fleet: Fleet, name: str = "gpu-1") -> dict[str, object] | None:
    found = fleet.whole[name].run("cat", f"{root_of(fleet, name)}/.lock.json", check=False).stdout
    return json.loads(found) if found else None


def _converges(fleet: Fleet) -> None:
    rows = fleet.apply()
    assert {row["status"] for row in rows.values()} == {"converged"}
    assert all(healthy(host) >= NAMES for host in fleet.whole.values())
    assert all(_lock(fleet, name) is None for name in fleet.whole)


def test_ctrl_c_frees_the_locks_or_says_whose_they_are(fleet: Fleet) -> None:
    run = _begun(fleet)
    os.killpg(run.pid, signal.SIGINT)
    said = run.communicate(timeout=60)[0]
    assert run.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    held = [name for name in fleet.whole if _lock(fleet, name) is not None]
    assert all(f"{name}  lock  still held" in said for name in held), said
    if held:
        assert fleet.calm("unlock", "--yes").code == 0
    _converges(fleet)


SLOW = """#!/bin/sh
# Stands before python3: {what} takes a while, and says that it has begun.
case "$*" in
"{arguments}") [ {unless} ] || {{ touch /tmp/slow; sleep {seconds}; }} ;;
esac
exec /usr/bin/python3 "$@"
"""
WINDOWS = {
    "while the others take theirs": ("-I -", "-e /root/calm/.lock.json", 4),
    "while a host is read": ("-I -S -", "! -e /root/calm/.lock.json", 60),
}
"""When an apply is interrupted: the arguments of the command that is slow then, when it is not, seconds."""


@pytest.mark.parametrize("when", WINDOWS)
def test_ctrl_c_before_anything_is_changed_frees_every_lock(fleet: Fleet, when: str) -> None:
    arguments, unless, seconds = WINDOWS[when]
    slow = fleet.whole["gpu-1"]
    for name, host in fleet.whole.items():
        host.run("rm", f"{root_of(fleet, name)}/app.yaml")
    script = SLOW.format(what=when, arguments=arguments, unless=unless, seconds=seconds)
    slow.run("sh", "-c", "cat > /usr/local/bin/python3; chmod 755 /usr/local/bin/python3", stdin=script)
    try:
        run = fleet.started("apply", "--yes")
        wait_until(lambda: _slow(fleet) or run.poll() is not None, "apply did not come so far", 60)
        wait_until(lambda: _lock(fleet, "gpu-2") is not None or run.poll() is not None, "no lock", 30)
        assert run.poll() is None, run.communicate()[0]
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate(timeout=60)[0]
    finally:
        slow.run("rm", "-f", "/usr/local/bin/python3", "/tmp/slow")
    assert run.returncode == 130, said
    assert "Traceback" not in said
    assert all(_lock(fleet, name) is None for name in fleet.whole), said
    _converges(fleet)


def _slow(fleet: Fleet) -> bool:
    return fleet.whole["gpu-1"].run("test", "-e", "/tmp/slow", check=False).returncode == 0


@pytest.mark.full
def test_the_locks_of_a_killed_apply_name_it_and_can_be_freed(fleet: Fleet) -> None:
    run = _begun(fleet)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    refused = fleet.calm("apply", "--yes", "--json")
    assert refused.code in (0, 1), refused.said
    if refused.code == 1:
        locked = [row for row in refused.json()["hosts"] if row["error"]]
        assert {row["error"]["code"] for row in locked} == {"locked"}
        assert all(f"pid {run.pid}" in row["error"]["message"] for row in locked)
        freed = fleet.calm("unlock", "--yes")
        assert freed.code == 0, freed.said
        assert f"pid {run.pid}" in freed.out
    _converges(fleet)


def test_a_connection_that_breaks_stops_that_host_alone(fleet: Fleet) -> None:
    run = _begun(fleet)
    fleet.whole["gpu-1"].run("pkill", "-KILL", "-f", "sshd: root")
    said = run.communicate(timeout=120)[0]
    assert run.returncode == 1, said
    assert "broke off during" in said
    rows = said[said.rindex("HOST ") :].partition("\n\n")[0]
    table = {line.split()[0]: line.split()[1] for line in rows.splitlines()[1:]}
    assert table == dict.fromkeys(fleet.whole, "converged") | {"gpu-1": "failed"}
    assert fleet.calm("unlock", "--yes").code == 0
    _converges(fleet)


STUCK = """#!/bin/sh
# Python, but for whoever wants to write app.yaml: that never ends.
script=$(mktemp)
cat > "$script"
if grep -q '"do": "write".*app.yaml' "$script"; then exec sleep 600; fi
exec /usr/bin/python3 "$@" < "$script"
"""


@pytest.mark.full
def test_a_host_that_is_stuck_is_given_up_alone(fleet: Fleet) -> None:
    """It still takes commands, but one of them comes to no end: a disk that does not answer, say."""
    host, wrapper = fleet.whole["gpu-1"], "/usr/local/bin/python3"
    for name, each in fleet.whole.items():
        each.run("rm", f"{root_of(fleet, name)}/app.yaml")
    host.run("sh", "-c", f"cat > {wrapper} && chmod 755 {wrapper}", stdin=STUCK)
    try:
        result = fleet.calm("apply", "--yes", "--json")
    finally:
        host.run("rm", wrapper)
        host.run("pkill", "-f", "sleep 600", check=False)
    rows = {row["name"]: row for row in result.json()["hosts"]}
    assert result.code == 1, result.said
    assert rows["gpu-1"]["error"]["code"] == "stuck", result.said
    assert "document:app.yaml on" in rows["gpu-1"]["error"]["message"]
    assert {rows[name]["status"] for name in ("gpu-2", "gpu-3")} == {"converged"}
    fleet.calm("unlock", "--yes")
    _converges(fleet)


@pytest.mark.full
def test_a_network_that_is_gone_is_noticed_in_time(fleet: Fleet) -> None:
    run = _begun(fleet)
    host, began = fleet.whole["gpu-1"], time.monotonic()
    drop = ["INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP"]
    host.run("iptables", "-I", *drop)
    try:
        said = run.communicate(timeout=180)[0]
    finally:
        host.run("iptables", "-D", *drop)
    assert run.returncode == 1, said
    assert "broke off during" in said
    assert time.monotonic() - began < 100
    fleet.calm("unlock", "--yes")
    _converges(fleet)
