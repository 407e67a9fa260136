"""Hosts to converge over SSH: containers with systemd, sshd, cron and a Docker Engine of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import images
from tests.lab.engine import Engine, wait_until
from tests.lab.errors import LabError

ARCHIVE = "/srv/images.tar"
"""Where a host finds the images that it is to load."""
AS_A_MACHINE = (
    "--privileged",
    "--cgroupns=private",
    "--tmpfs=/run",
    "--tmpfs=/run/lock",
    # Not on the container's own file system, on which overlay2 does not work.
    "--volume=/var/lib/docker",
)


@dataclass(frozen=True, kw_only=True)
class Host:
    """A running lab host. Users: root, and ops with sudo and the docker group; both take `key`."""

    name: str
    address: str
    key: Path
    engine: Engine

    def ssh_command(self, *command: str, user: str = "root") -> list[str]:
        """The argv that runs a command there over SSH; without one, a login shell."""
        options = (
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
        )
        flags = [part for option in options for part in ("-o", option)]
        return ["ssh", *flags, "-i", str(self.key), f"{user}@{self.address}", *command]

    def ssh(
        self, command: str, *, user: str = "root", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command there over SSH; raise LabError if `check` and it fails."""
        done = subprocess.run(
            self.ssh_command(command, user=user),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return _checked(done, command) if check else done

    def run(self, *command: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command there as root, past sshd and whatever shell would make of it."""
        return self.engine.docker("exec", "-i", self.name, *command, check=check, stdin=stdin)

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the docker command there."""
        return self.run("docker", *arguments, check=check)


def start(
    engine: Engine, name: str, *, key: Path, preload: Sequence[images.Image] = (), deadline_s: float = 60
) -> Host:
    """Start a host under this name and wait until systemd, sshd and its engine are there.

    `preload` are images that its engine has then. The first time, the host's own image is built before.
    """
    images.ensure(engine, *preload, images.HOST)
    mount = ["-v", f"{images.archive(engine, *preload)}:{ARCHIVE}:ro"] if preload else []
    system = [
        "--privileged",
        "--cgroupns=private",
        "--tmpfs=/run",
        "--tmpfs=/run/lock",
        "-v",
        "/var/lib/docker",
    ]
    engine.docker("run", "-d", f"--name={name}", f"--hostname={name}", *system, *mount, images.HOST.name)
    try:
        return _ready(engine, name, key, bool(preload), deadline_s)
    except LabError:
        destroy(engine, name)
        raise


def destroy(engine: Engine, name: str) -> None:
    """Take a host away with all that is on it; nothing happens if there is none."""
    engine.docker("rm", "-f", "-v", name, check=False)


def key_pair(at: Path) -> Path:
    """An ed25519 key under this folder, made if it is not there; the public one lies beside it."""
    at.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = at / "id_ed25519"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def _ready(engine: Engine, name: str, key: Path, preload: bool, deadline_s: float) -> Host:
    inspect = "{{.NetworkSettings.IPAddress}}"
    host = Host(
        name=name,
        address=engine.docker("inspect", "-f", inspect, name).stdout.strip(),
        key=key,
        engine=engine,
    )
    wait_until(lambda: _running(host), f"systemd on {name} was not running", deadline_s)
    for user, home in (("root", "/root"), ("ops", "/home/ops")):
        script = f"install -d -m 0700 -o {user} {home}/.ssh && cat > {home}/.ssh/authorized_keys"
        host.run("sh", "-c", script, stdin=key.with_suffix(".pub").read_text())
    wait_until(
        lambda: host.docker("version", check=False).returncode == 0,
        f"Docker on {name} did not answer",
        deadline_s,
    )
    if preload:
        host.docker("load", "-q", "-i", ARCHIVE)
    wait_until(
        lambda: host.ssh("true", check=False).returncode == 0, f"sshd on {name} did not answer", deadline_s
    )
    return host


def _running(host: Host) -> bool:
    return host.run("systemctl", "is-system-running", check=False).stdout.strip() == "running"


def _checked(done: subprocess.CompletedProcess[str], command: str) -> subprocess.CompletedProcess[str]:
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise LabError(f"{command} exited {done.returncode}:\n{said}")
    return done
