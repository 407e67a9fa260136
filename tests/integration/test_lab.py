"""The lab behaves where other tests rely on it: official entry points, limits, hosts, names, ports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import hosts, images, leftovers
from tests.lab.engine import Engine, wait_until
from tests.lab.ports import free_ports

CHECKOUT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def run(engine: Engine, unique_name: Callable[[str], str]) -> Iterator[Callable[..., str]]:
    """Starts a container in the background and gives its name."""
    started: list[str] = []

    def start(*arguments: str) -> str:
        started.append(unique_name("lab"))
        engine.docker("run", "-d", f"--name={started[-1]}", *arguments)
        return started[-1]

    yield start
    for name in started:
        engine.docker("rm", "-f", "-v", name, check=False)


@pytest.mark.engine
def test_postgres_is_set_up_from_its_environment_and_asks_the_network_for_a_password(
    engine: Engine, run: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    given = [
        "-e=POSTGRES_USER=agent_user",
        "-e=POSTGRES_DB=agent_system",
        "-e=POSTGRES_PASSWORD_FILE=/run/password",
    ]
    mount = f"-v={tmp_path / 'password'}:/run/password:ro"
    name = run(*given, mount, images.POSTGRES.name, "postgres", "-c", "max_connections=42")

    def ask(url: str, password: str = "") -> subprocess.CompletedProcess[str]:
        psql = ["psql", "-w", "-Atc", "SHOW max_connections", url]
        return engine.docker("exec", f"-e=PGPASSWORD={password}", name, *psql, check=False)

    wait_until(
        lambda: ask("postgresql://agent_user@127.0.0.1/agent_system").stdout == "42\n", "no answer", 30
    )
    address = engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).stdout.strip()
    over_network = f"postgresql://agent_user@{address}/agent_system"
    assert ask(over_network).returncode != 0
    assert "password authentication failed" in ask(over_network, "wrong").stderr
    assert ask(over_network, "s3cret").stdout == "42\n"


@pytest.mark.engine
def test_initdb_of_postgres_15_does_not_know_c(engine: Engine) -> None:
    given = ["-e=POSTGRES_PASSWORD=x", "-e=POSTGRES_INITDB_ARGS=-c max_connections=50"]
    done = engine.docker("run", "--rm", *given, images.POSTGRES.name, check=False)
    assert done.returncode != 0
    assert "initdb: invalid option -- 'c'" in done.stderr


@pytest.mark.engine
def test_a_volume_of_another_major_version_is_not_touched(
    engine: Engine, unique_name: Callable[[str], str]
) -> None:
    volume = unique_name("old")
    try:
        data = ["--rm", f"-v={volume}:/var/lib/postgresql/data"]
        older = "cd $PGDATA && echo 14 > PG_VERSION && touch postgresql.conf"
        engine.docker("run", *data, images.POSTGRES.name, "sh", "-c", older)
        done = engine.docker("run", *data, images.POSTGRES.name, check=False)
        assert done.returncode != 0
        assert "initialized by PostgreSQL version 14" in done.stderr
        version = ["cat", "/var/lib/postgresql/data/PG_VERSION"]
        assert engine.docker("run", *data, images.POSTGRES.name, *version).stdout == "14\n"
    finally:
        engine.docker("volume", "rm", volume)


@pytest.mark.engine
def test_redis_reads_its_files_as_its_own_user(
    engine: Engine, run: Callable[..., str], tmp_path: Path
) -> None:
    config = tmp_path / "redis.conf"
    config.write_text("requirepass s3cret\n")
    config.chmod(0o600)
    refused = engine.docker(
        "run", "--rm", f"-v={config}:/c/redis.conf:ro", images.REDIS.name, "/c/redis.conf", check=False
    )
    assert "can't open config file" in refused.stdout + refused.stderr

    config.chmod(0o444)
    name = run(f"-v={config}:/c/redis.conf:ro", images.REDIS.name, "redis-server", "/c/redis.conf")
    ping = ["exec", "-e=REDISCLI_AUTH=s3cret", name, "redis-cli", "ping"]
    wait_until(lambda: engine.docker(*ping, check=False).stdout == "PONG\n", "redis did not answer", 10)


@pytest.mark.engine
def test_a_memory_limit_is_enforced(engine: Engine, run: Callable[..., str]) -> None:
    hungry = "x = bytearray(200 * 2**20)"
    name = run("-m=64m", "--memory-swap=64m", images.PYTHON.name, "python", "-c", hungry)
    assert engine.docker("wait", name).stdout == "137\n"
    assert engine.docker("inspect", "-f", "{{.State.OOMKilled}}", name).stdout == "true\n"


@pytest.mark.engine
def test_nginx_answers_and_stops_at_once(
    engine: Engine, run: Callable[..., str], free_port: Callable[[], int]
) -> None:
    name = run(f"-p=127.0.0.1:{free_port()}:80", images.NGINX.name)
    page = ["exec", name, "busybox", "wget", "-qO-", "http://127.0.0.1/"]
    wait_until(lambda: "Welcome" in engine.docker(*page, check=False).stdout, "nginx did not answer", 10)
    engine.docker("stop", "-t", "20", name, timeout_s=10)
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", name).stdout == "0\n"


@pytest.mark.host
def test_a_host_has_systemd_for_the_system_and_for_users_and_docker_of_its_own(
    lab_host: Callable[..., hosts.Host],
) -> None:
    host = lab_host("probe", preload=(images.REDIS,))
    assert host.ssh("systemctl is-system-running").stdout == "running\n"
    assert host.ssh("sudo -n id -u", user="ops").stdout == "0\n"
    assert host.ssh("systemctl --user is-system-running", user="ops").stdout == "running\n"
    assert (
        host.ssh("systemd-run --wait --quiet sh -c 'echo timer > /root/ran' && cat /root/ran").stdout
        == "timer\n"
    )
    assert host.docker("images", "-q", images.REDIS.name).stdout
    limits = "-m 32m --cpus 0.5 -p 127.0.0.1:6379:6379"
    host.ssh(f"docker run -d --name redis {limits} {images.REDIS.name}", user="ops")
    read = (
        "import socket; s = socket.create_connection(('127.0.0.1', 6379)); "
        "s.sendall(b'PING\\r\\n'); print(s.recv(7))"
    )
    wait_until(lambda: "PONG" in host.run("python3", "-c", read, check=False).stdout, "no PONG", 20)
    assert host.ssh("docker compose version --short").stdout.startswith("2.")


@pytest.mark.engine
def test_what_a_killed_run_left_is_swept_and_what_lives_is_not(engine: Engine) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    dead, alive = f"calm-t{gone.stdout.strip()}-1-data", f"{leftovers.PREFIX}data"
    for volume in (dead, alive):
        engine.docker("volume", "create", volume)
    try:
        assert f"volume {dead}" in leftovers.of_dead_runs(engine)
        assert alive in engine.lines("volume", "ls", "-q")
        # In a run of its own, since what this run has is in use.
        script = (
            "from tests.lab import engine, leftovers; lab = engine.lab_engine(); "
            "lab.docker('volume', 'create', f'{leftovers.PREFIX}left'); "
            "print([one.replace(leftovers.PREFIX, '') for one in leftovers.of_this_run(lab)])"
        )
        swept = subprocess.run(
            [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True
        )
        assert swept.stdout.strip() == "['volume left']"
    finally:
        engine.docker("volume", "rm", "-f", dead, alive)


def test_two_runs_are_never_given_the_same_port() -> None:
    mine = free_ports(20)
    script = (
        "from unittest import mock; import os\n"
        f"with mock.patch('os.getpid', return_value={os.getpid()}):\n"
        "    from tests.lab.ports import free_ports; print(*free_ports(20))"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    theirs = {int(port) for port in other.stdout.split()}
    assert len(set(mine)) == len(theirs) == 20
    assert not theirs & set(mine)
