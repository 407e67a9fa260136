"""A fleet for a test: whole lab hosts, broken ones, an inventory of them, and a home for the controller."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from calm.drift.host import merged
from tests.integration.preloaded import Preloaded
from tests.integration.stack import CALM, CHECKOUT, LOOKS, Result
from tests.lab import hosts, images
from tests.lab.engine import Engine, wait_until

STACK = (images.POSTGRES, images.REDIS, images.API)
"""The images that a host needs for the settings of these tests."""

SETTINGS: Mapping[str, Any] = {
    "docker": {"agent_api": {"image": images.API.name.partition(":")[0]}},
    "agent": {"enabled": False},
    "schedules": {"backend": "none"},
}
"""Neither agent nor schedules: those have tests of their own, and a package index may be far."""

_COMMANDS = re.compile(r"Starting session: command")


@cache
def _preloaded() -> Preloaded:
    return Preloaded()


@dataclass(kw_only=True)
class Fleet:
    """An inventory of several hosts. ``data`` is pyinfra's host data by name; ``settings`` are for all."""

    folder: Path
    key: Path
    settings: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    whole: dict[str, hosts.Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.known_hosts.parent.mkdir(mode=0o700, exist_ok=True)
        self.known_hosts.touch()

    @property
    def home(self) -> Path:
        """The home of whoever runs calm here."""
        return self.folder / "home"

    @property
    def known_hosts(self) -> Path:
        """Where ssh keeps the keys of hosts."""
        return self.home / ".ssh" / "known_hosts"

    @property
    def inventory(self) -> Path:
        """The inventory file, rewritten by :meth:`write`."""
        return self.folder / "fleet.py"

    def add(self, name: str, address: str, *, user: str = "root", trusted: bool = True, **data: Any) -> None:
        """Put a host into the inventory; if ``trusted``, its key into known_hosts."""
        base = {"ssh_hostname": address, "ssh_user": user, "ssh_key": str(self.key)}
        self.data[name] = {**base, **data}
        if trusted:
            self.trust(address, data.get("ssh_port", 22))
        self.write()

    def trust(self, address: str, port: int = 22) -> None:
        """Put the key that answers at ``address`` into known_hosts."""
        argv = ["ssh-keyscan", "-t", "ed25519", "-p", str(port), address]
        seen = subprocess.run(argv, capture_output=True, text=True, check=True)
        with self.known_hosts.open("a") as file:
            file.write(seen.stdout)

    def write(self, **changes: Any) -> None:
        """Write the inventory, with ``changes`` merged into everybody's settings from now on."""
        self.settings = merged(self.settings, changes)
        rows = [(name, {"calm": self.settings} | data) for name, data in self.data.items()]
        self.inventory.write_text(f"hosts = {rows!r}\n")

    def environment(self) -> dict[str, str]:
        """The environment of a command: a home of its own, nobody's agent, no colours."""
        left_out = ("CALM_", "DOCKER_", "SSH_", "XDG_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
        return kept | {"HOME": str(self.home), "NO_COLOR": "1"}

    def calm(self, command: str, *arguments: str) -> Result:
        """Run ``calm COMMAND`` with this inventory; what changes hosts in a process of its own."""
        if command not in LOOKS:
            done = subprocess.run(
                [*CALM, command, str(self.inventory), *arguments],
                cwd=CHECKOUT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            return Result(code=done.returncode, out=done.stdout, err=done.stderr)
        code, out, err = _preloaded().run(
            [command, str(self.inventory), *arguments], env=self.environment(), text="", timeout=240
        )
        return Result(code=code, out=out, err=err)

    def started(self, command: str, *arguments: str) -> subprocess.Popen[str]:
        """Start ``calm COMMAND`` with this inventory, as a process group of its own."""
        return subprocess.Popen(
            [*CALM, command, str(self.inventory), *arguments],
            cwd=CHECKOUT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def rows(self, command: str, *arguments: str, code: int) -> dict[str, Any]:
        """``calm COMMAND --json``, which has to end with ``code``: its hosts by name."""
        result = self.calm(command, "--json", *arguments)
        assert result.code == code, result.said
        return {row["name"]: row for row in result.json()["hosts"]}

    def apply(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """``calm apply --yes --json``: its hosts by name."""
        return self.rows("apply", "--yes", *arguments, code=code)

    def pending(self, *arguments: str) -> dict[str, set[str]]:
        """What plan finds: ids by host, of the hosts that differ."""
        rows = self.calm("plan", "--json", *arguments).json()["hosts"]
        return {row["name"]: {each["id"] for each in row["resources"]} for row in rows if row["resources"]}


def root_of(fleet: Fleet, name: str) -> str:
    """calm's folder on a host: of root, or of whoever logs in there and stays so."""
    data = fleet.data[name]
    return (
        "/root/calm" if data["ssh_user"] == "root" or data.get("_sudo") else f"/home/{data['ssh_user']}/calm"
    )


def containers(host: hosts.Host) -> dict[str, str]:
    """Id and start of every container on a host, by name."""
    form = "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.Status}}"
    shown = host.run("sh", "-c", f"docker inspect -f '{form}' $(docker ps -aq)").stdout.splitlines()
    return dict(line.split(" ", 1) for line in shown)


def healthy(host: hosts.Host) -> set[str]:
    """Names of the containers on a host that say they are well."""
    return set(host.docker("ps", "--filter", "health=healthy", "--format", "{{.Names}}").stdout.split())


def start_all(
    engine: Engine, names: Mapping[str, str], *, key: Path, deadline_s: float = 120
) -> dict[str, hosts.Host]:
    """Start whole hosts side by side: by the names that tests use, under the names that the engine knows."""
    images.ensure(engine, *STACK, images.HOST)

    def start(name: str) -> hosts.Host:
        return hosts.start(engine, name, key=key, preload=STACK, deadline_s=deadline_s)

    with ThreadPoolExecutor(len(names)) as pool:
        started = dict(zip(names, pool.map(start, names.values()), strict=True))
    for host in started.values():
        log_commands(host)
    return started


def start_sshd(
    engine: Engine,
    name: str,
    *,
    key: Path,
    without: tuple[str, ...] = (),
    first: str = "",
    options: tuple[str, ...] = (),
) -> str:
    """Start a container with sshd alone, ``without`` some programs; returns its address.

    ``first`` is a shell command that runs there before sshd, ``options`` are of ``docker run``.
    """
    images.ensure(engine, images.HOST)
    public = key.with_suffix(".pub").read_text().strip()
    script = 'install -d -m 0700 /root/.ssh; echo "$KEY" > /root/.ssh/authorized_keys; mkdir -p /run/sshd; '
    script += "".join(f"rm -f /usr/bin/{program}*; " for program in without)
    script += f"{first or ':'}; exec /usr/sbin/sshd -D"
    run = ("run", "-d", f"--name={name}", f"--env=KEY={public}", *options)
    engine.docker(*run, images.HOST.name, "sh", "-c", script)
    address = engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).stdout.strip()
    wait_until(lambda: _listens(address), f"sshd on {name} did not answer", 30)
    return address


def _listens(address: str) -> bool:
    try:
        socket.create_connection((address, 22), timeout=1).close()
    except OSError:
        return False
    return True


def log_commands(host: hosts.Host) -> None:
    """Have sshd on a host note every command that it is asked to run."""
    script = "echo LogLevel VERBOSE > /etc/ssh/sshd_config.d/log.conf && systemctl restart ssh"
    host.run("sh", "-c", script)
    wait_until(lambda: _listens(host.address), "sshd did not come back", 20)


def commands(host: hosts.Host) -> int:
    """How many commands sshd has run on a host so far."""
    return len(_COMMANDS.findall(ssh_log(host)))


def ssh_log(host: hosts.Host) -> str:
    """What sshd on a host has logged so far: all of it, since what is sent last is waited for."""
    mark = f"read {time.monotonic_ns()}"
    host.run("logger", "-t", "calm-test", mark)
    read = ("journalctl", "-t", "sshd", "-t", "calm-test", "-o", "cat", "--no-pager")
    wait_until(lambda: mark in host.run(*read).stdout, "the journal did not get a line", 20)
    return host.run(*read).stdout


def counted(host: hosts.Host, work: Callable[[], object]) -> int:
    """How many commands ``work`` costs on a host."""
    before = commands(host)
    work()
    return commands(host) - before


@contextmanager
def deaf() -> Iterator[int]:
    """A port of this machine that does not even answer who knocks, as behind a firewall that drops."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # its queue is full now, and Linux drops what comes then
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@contextmanager
def mute() -> Iterator[int]:
    """A port of this machine that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server.getsockname()[1]
