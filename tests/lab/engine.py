"""A Docker Engine of the lab's own, beside whatever engine the machine already has.

Its socket, data, pid file, bridge, address pools and containerd name space are its own. It keeps away from
Docker's chains in iptables, since a second engine would flush the first one's: ports are published by
Docker's proxy, and three rules for the lab's address range let containers out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab import debian
from tests.lab.errors import LabError, UnavailableError

LONGEST_SOCKET = 90
"""Bytes: a socket's path may have 107, and containerd's lie some folders deeper than ours."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A bridge and an address range that belong to one lab folder, so that two labs do not meet."""

    identity: int

    @property
    def name(self) -> str:
        """Of the bridge, and of the lab's name space in a containerd that it shares."""
        return f"calm-lab-{self.identity}"

    @property
    def range(self) -> str:
        """All addresses of this lab. Docker itself takes from 172.16.0.0/12 and 192.168.0.0/16."""
        return f"10.{self.identity}.0.0/16"

    @property
    def gateway(self) -> str:
        """The bridge's own address."""
        return f"10.{self.identity}.0.1/24"

    @property
    def pool(self) -> str:
        """Where further networks get theirs from."""
        return f"10.{self.identity}.128.0/17"

    def add(self) -> None:
        """Make the bridge, and let containers out."""
        if not Path("/sys/class/net", self.name).exists():
            _run("ip", "link", "add", self.name, "type", "bridge")
            _run("ip", "address", "add", self.gateway, "dev", self.name)
        _run("ip", "link", "set", self.name, "up")
        for table, chain, *rule in self._rules():
            if not _succeeds("iptables", "-w", "-t", table, "-C", chain, *rule):
                _run("iptables", "-w", "-t", table, "-I", chain, *rule)

    def remove(self) -> None:
        """Take both away again."""
        for table, chain, *rule in self._rules():
            _succeeds("iptables", "-w", "-t", table, "-D", chain, *rule)
        _succeeds("ip", "link", "delete", self.name)

    def _rules(self) -> tuple[tuple[str, ...], ...]:
        return (
            ("nat", "POSTROUTING", "-s", self.range, "!", "-d", self.range, "-j", "MASQUERADE"),
            ("filter", "FORWARD", "-s", self.range, "-j", "ACCEPT"),
            ("filter", "FORWARD", "-d", self.range, "-j", "ACCEPT"),
        )


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that tests may use: the lab's own, or the machine's if CALM_USE_ENGINE=1 said so."""

    socket: str

    @property
    def host(self) -> str:
        """The engine's address as DOCKER_HOST takes it."""
        return f"unix://{self.socket}"

    @property
    def env(self) -> dict[str, str]:
        """This process's environment with DOCKER_HOST; for subprocesses."""
        names = ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
        rest = {name: value for name, value in os.environ.items() if name not in names}
        return rest | {"DOCKER_HOST": self.host}

    def docker(
        self, *arguments: str, check: bool = True, stdin: str | None = None, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run the docker command on this engine; LabError with its last lines if `check` and it fails."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.env,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
            raise LabError(f"docker {' '.join(arguments)} exited {done.returncode}:\n{said}")
        return done

    def lines(self, *arguments: str) -> list[str]:
        """What a docker command printed, line by line."""
        return self.docker(*arguments).stdout.split("\n")[:-1]

    def answers(self) -> bool:
        """Whether the engine is there and answers."""
        return shutil.which("docker") is not None and self.docker("version", check=False).returncode == 0


def folder() -> Path:
    """Where the lab keeps its engine and images: $CALM_LAB, else ~/.cache/calm-lab."""
    return Path(os.environ.get("CALM_LAB") or Path.home() / ".cache" / "calm-lab").resolve()


def lab_engine() -> Engine:
    """The lab's own engine, running or not."""
    return Engine(socket=str(folder() / "docker.sock"))


def lab_network() -> Network:
    """The network of this folder's lab."""
    return Network(identity=200 + zlib.crc32(bytes(folder())) % 50)


def up() -> tuple[Engine, bool]:
    """The lab's engine, started if it was not running, and whether this call started it.

    Raises UnavailableError where no engine can be started, LabError where one should start and does not.
    """
    engine = lab_engine()
    if engine.answers():
        return engine, False
    _check_machine()
    with locked("engine"):
        if engine.answers():
            return engine, False
        debian.ensure_docker()
        _start(engine)
        return engine, True


def down() -> bool:
    """Stop the lab's engine and all that runs on it, images stay on disk; whether there was one."""
    with locked("engine"):
        pid = running_pid()
        if pid is None:
            return False
        engine = lab_engine()
        containers = engine.lines("ps", "-q")
        if containers:
            engine.docker("kill", *containers, check=False)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not _is_our_dockerd(pid), f"dockerd (pid {pid}) did not stop", 60)
        lab_network().remove()
        return True


def running_pid() -> int | None:
    """The pid of the lab's dockerd, if it runs; a pid that has been given to another program is not it."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int((folder() / "docker.pid").read_text())
        return pid if _is_our_dockerd(pid) else None
    return None


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold one of the lab's locks, so that two test runs do not start or build the same thing at once."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def in_use() -> Iterator[None]:
    """Say that a test run uses the lab, so that the one that started the engine leaves it running."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "in-use.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def is_in_use() -> bool:
    """Whether another test run uses the lab right now."""
    with (folder() / "in-use.lock").open("w") as handle, contextlib.suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    return True


def wait_until(condition: Callable[[], bool], otherwise: str, deadline_s: float) -> None:
    """Wait for a condition, looking ten times a second; raise LabError(otherwise) after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"{otherwise} within {deadline_s:g} s")
        time.sleep(0.1)


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise UnavailableError("the lab's engine can only be started by root")
    if not Path("/sys/fs/cgroup").is_dir() or not any(Path("/sys/fs/cgroup").iterdir()):
        raise UnavailableError("this machine has no cgroups, without which no container runs")
    if len(str(folder())) > LONGEST_SOCKET - len("/docker.sock"):
        raise UnavailableError(
            f"the folder {folder()} is too long a name for sockets; set CALM_LAB to a shorter one"
        )


def _start(engine: Engine) -> None:
    at, network = folder(), lab_network()
    network.add()
    with (at / "dockerd.log").open("ab") as log:
        process = subprocess.Popen(
            [
                "dockerd",
                f"--host={engine.host}",
                f"--data-root={at / 'data'}",
                f"--exec-root={at / 'run'}",
                f"--pidfile={at / 'docker.pid'}",
                f"--config-file={_empty_config(at)}",
                f"--bridge={network.name}",
                f"--default-address-pool=base={network.pool},size=24",
                "--iptables=false",
                "--ip6tables=false",
                f"--containerd-namespace={network.name}",
                f"--containerd-plugins-namespace={network.name}-plugins",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: engine.answers() or process.poll() is not None, "dockerd did not answer", 60)
    except LabError:
        process.terminate()
        raise
    if process.poll() is not None:
        tail = (at / "dockerd.log").read_text(errors="replace").splitlines()[-8:]
        raise LabError("dockerd stopped at once:\n" + "\n".join(tail))


def _empty_config(at: Path) -> Path:
    """A configuration of the lab's own, so that the machine's /etc/docker/daemon.json is not read."""
    file = at / "daemon.json"
    file.write_text("{}\n")
    return file


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _is_our_dockerd(pid: int) -> bool:
    """By its command line, which names our folder; a zombie has none and counts as gone."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return command[0].endswith(b"dockerd") and f"--data-root={folder() / 'data'}".encode() in command
