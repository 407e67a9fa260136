"""Three real hosts over SSH: from bare to healthy, again without a change, and back from drift."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from calm.fleet.connection import CONNECT_SECONDS
from tests.fleet.machines import Fleet, containers, counted, deaf, healthy, mute, root_of, start_sshd
from tests.lab.engine import Engine

pytestmark = pytest.mark.host

NAMES = {"agent-system-postgres", "agent-system-redis", "agent-system-api"}
SECRETS = ("postgres_password", "redis_password", "jwt_secret")


def test_one_apply_makes_all_hosts_healthy(fleet: Fleet, converged: dict[str, Any]) -> None:
    assert set(converged) == set(fleet.data)
    for name, host in fleet.whole.items():
        assert healthy(host) >= NAMES, name


def test_no_secret_is_in_a_command_line_or_for_other_users(fleet: Fleet) -> None:
    everybodys: set[str] = set()
    for name, host in fleet.whole.items():
        folder = f"{root_of(fleet, name)}/secrets"
        values = [host.run("cat", f"{folder}/{secret}").stdout.strip() for secret in SECRETS]
        assert all(len(value) >= 43 for value in values), "256 bits each"
        assert not everybodys & set(values), "no host has another's secrets"
        everybodys |= set(values)
        host.run("sh", "-c", "id spy >/dev/null 2>&1 || useradd spy")
        assert host.run("runuser", "-u", "spy", "--", "ls", folder, check=False).returncode != 0
        search = ["grep", "-rlF", "-f-", "/root", "/home", "/etc", "/tmp", "/var/log"]
        found = host.run("runuser", "-u", "spy", "--", *search, check=False, stdin="\n".join(values))
        assert found.stdout == ""
    argv = fleet.whole["gpu-1"].run("cat", "/tmp/seen").stdout
    assert "python3" in argv
    assert not [value for value in everybodys if value in argv]


def test_files_belong_to_whom_the_inventory_names(fleet: Fleet) -> None:
    for name, host in fleet.whole.items():
        root = root_of(fleet, name)
        listed = host.run("find", root, "-printf", "%u\n").stdout.split()
        assert set(listed) == {"ops" if root.startswith("/home/ops") else "root"}, name


def test_again_nothing_changes_and_it_costs_few_commands(fleet: Fleet) -> None:
    host = fleet.whole["gpu-1"]
    before = {name: containers(each) for name, each in fleet.whole.items()}
    said: list[str] = []
    assert counted(host, lambda: said.append(fleet.calm("plan").out)) <= 2
    assert f"Plan: 0 to create, 0 to change, 0 to remove on {len(fleet.whole)} hosts" in said[0]
    assert counted(host, fleet.apply) <= 3
    assert {name: containers(each) for name, each in fleet.whole.items()} == before

    by_sudo = sum(bool(data.get("_sudo")) for data in fleet.data.values())
    assert said[0].count("note: commands run there as root, by sudo: the inventory asks for it") == by_sudo
    log = fleet.whole["gpu-3"].run("journalctl", "-o", "cat", "_COMM=sudo", "--no-pager", check=False).stdout
    assert "COMMAND" not in log


def test_wrong_settings_of_one_host_keep_calm_off_all(fleet: Fleet) -> None:
    """They are read while the connections come about; nothing is run on any host then, and none is locked."""
    host, kept = fleet.whole["gpu-1"], dict(fleet.data["gpu-3"])
    fleet.data["gpu-3"] = kept | {"calm": fleet.settings | {"rooot": "/x"}}
    fleet.write()
    said: list[Any] = []
    try:
        assert counted(host, lambda: said.append(fleet.calm("plan"))) == 0
        assert counted(host, lambda: said.append(fleet.calm("apply", "--yes"))) == 0
    finally:
        fleet.data["gpu-3"] = kept
        fleet.write()
    for result in said:
        assert (result.code, result.out) == (4, ""), result.said
        assert "calm.rooot" in result.err
        assert "host gpu-3" in result.err
    assert fleet.calm("status", "--limit", "gpu-1").code == 0


_SET_POLICY = (
    'REDISCLI_AUTH="$(cat /run/secrets/redis_password)" redis-cli CONFIG SET maxmemory-policy noeviction'
)
_SQL = "psql -U agent_user -d agent_system -c \"ALTER ROLE agent_user SET work_mem = '1GB'\""
_OFF_NETWORK = """
set -- agent-system-redis
docker update --cpus 1.5 --restart no $1
for name in $(docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' $1)
do docker network disconnect $name $1; done
"""

DRIFT: tuple[tuple[str, set[str]], ...] = (
    (
        "docker update --memory 300m --memory-swap 300m agent-system-redis; rm $ROOT/app.yaml",
        {"service:redis", "document:app.yaml"},
    ),
    (
        "docker kill agent-system-api; echo '# mine' >> $ROOT/docker/docker-compose.yml",
        {"service:agent-api", "document:compose"},
    ),
    (f"docker exec agent-system-redis sh -c '{_SET_POLICY}'", {"service:redis"}),
    (
        "docker stop agent-system-redis; docker pause agent-system-api",
        {"service:redis", "service:agent-api"},
    ),
    ("docker rm -f agent-system-redis", {"service:redis"}),
    (
        "chmod 666 $ROOT/docker/docker-compose.yml; : > $ROOT/app.yaml",
        {"document:compose", "document:app.yaml"},
    ),
    (f"docker exec agent-system-postgres {_SQL}", {"service:postgres"}),
    (_OFF_NETWORK, {"service:redis"}),
)
"""What is done to each host in turn, in its shell, and what plan has to name there."""


def test_drift_is_named_by_host_and_mended_by_one_apply(fleet: Fleet) -> None:
    drift = dict(zip(fleet.whole, DRIFT, strict=False))
    for name, (script, _) in drift.items():
        fleet.whole[name].run("env", f"ROOT={root_of(fleet, name)}", "sh", "-ec", script)
    rows = fleet.apply()
    found = {name: {each["id"] for each in row["resources"]} for name, row in rows.items()}
    assert found == {name: ids for name, (_, ids) in drift.items()}
    assert all(each["origin"] == "host" for row in rows.values() for each in row["resources"])
    assert {row["status"] for row in rows.values()} == {"converged"}, "apply looks again"
    assert all(healthy(host) >= NAMES for host in fleet.whole.values())
    assert fleet.pending() == {}


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A host with sshd alone that something is the matter with: what is missing or done there before."""

    without: tuple[str, ...] = ()
    first: str = ""
    options: tuple[str, ...] = ()


BROKEN = {
    "no-docker": Broken(without=("docker",)),
    "no-python": Broken(without=("python3",)),
    "full-disk": Broken(
        without=("docker",),
        first="head -c 1000000 /dev/zero > /root/calm/full",
        options=("--tmpfs=/root/calm:size=128k",),
    ),
    "other-key": Broken(),
}


@pytest.fixture
def broken(
    engine: Engine, fleet: Fleet, host_key: Path, unique_name: Callable[[str], str]
) -> Iterator[Fleet]:
    """The fleet with hosts in it that are down, silent, full, half there, or not who they were."""
    names = {what: unique_name(what) for what in BROKEN}
    kept = dict(fleet.data)
    with mute() as port, deaf() as dropped:
        try:
            for what, name in names.items():
                how = BROKEN[what]
                address = start_sshd(
                    engine, name, key=host_key, without=how.without, first=how.first, options=how.options
                )
                fleet.add(what, address, trusted=what != "other-key")
            fleet.known_hosts.open("a").write(
                _another_key(fleet.key, fleet.data["other-key"]["ssh_hostname"])
            )
            fleet.add("dead", "10.213.0.254", trusted=False)
            fleet.add("mute", "127.0.0.1", trusted=False, ssh_port=port)
            fleet.add("deaf", "127.0.0.1", trusted=False, ssh_port=dropped)
            fleet.add("stranger", fleet.data["no-docker"]["ssh_hostname"], ssh_known_hosts_file="/dev/null")
            yield fleet
        finally:
            fleet.data = kept
            fleet.write()
            for name in names.values():
                engine.docker("rm", "-f", "-v", name, check=False)


def _another_key(key: Path, address: str) -> str:
    """A line of known_hosts with a key that no host has."""
    return f"{address} {' '.join(key.with_suffix('.pub').read_text().split()[:2])}\n"


def test_broken_hosts_hold_nobody_up_and_say_what_is_wrong(broken: Fleet) -> None:
    for host_name, host in broken.whole.items():
        host.run("rm", f"{root_of(broken, host_name)}/app.yaml")
    began = time.monotonic()
    result = broken.calm("apply", "--yes", "--json")
    took = time.monotonic() - began
    assert result.code == 1, result.said
    # A connection that nobody answers would take the system itself more than two minutes to give up.
    assert took < CONNECT_SECONDS + 75, "nobody waits for longer than the time-out"
    rows = {row["name"]: row for row in result.json()["hosts"]}
    status = {name: row["status"] for name, row in rows.items()}
    assert [status[name] for name in broken.whole] == ["converged"] * len(broken.whole)
    assert status["no-docker"] == "converged"
    assert "service:redis" in {left["id"] for left in rows["no-docker"]["left_out"]}
    assert status["no-python"] == "failed"
    assert "python3 is not installed" in rows["no-python"]["error"]["message"]
    assert status["full-disk"] == "failed"
    assert "is full: free some space" in rows["full-disk"]["error"]["message"]
    unreached = {"dead": "unreachable", "mute": "unreachable", "deaf": "unreachable", "other-key": "host_key"}
    for name, code in unreached.items():
        assert (status[name], rows[name]["error"]["code"]) == ("unreachable", code), name
    assert "another one than before" in rows["other-key"]["error"]["message"]
    assert "not known" in rows["stranger"]["error"]["message"]

    limits = [part for name in ("gpu-1", "dead", "other-key") for part in ("--limit", name)]
    again = broken.calm("apply", "--yes", "--retry-failed", *limits)
    assert again.code == 3
    table = again.out[again.out.index("HOST ") :].splitlines()
    assert [line.split()[:2] for line in table[1:3]] == [
        ["other-key", "unreachable"],
        ["dead", "unreachable"],
    ]
    assert "ssh-keygen -R" in again.out
