"""Debian packages: a Docker Engine that is new enough, and the archive that this machine itself uses.

Debian 12 has Docker 20.10 and Compose 1; both are too old for calm. Debian 13 has Docker 26.1 and Compose
2.26, and its packages install on Debian 12. No address of an archive is written down here: it is read from
the machine's own apt sources.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.lab.errors import LabError, UnavailableError

LEAST_ENGINE = (26, 1)
"""Docker Engine 25 brought the health check's start interval, 26.1 is what Debian 13 has."""

PACKAGES = ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "iptables")
PLUGIN_FOLDERS = (
    "/usr/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
)
MAY_INSTALL = "CALM_REQUIRE_DOCKER"
NEWER_SUITE = "trixie"
NEWER_SOURCE = Path("/etc/apt/sources.list.d/calm-lab-trixie.sources")
PIN = Path("/etc/apt/preferences.d/calm-lab-trixie")
"""Keeps every other package of the machine on its own release."""


def ensure_docker() -> None:
    """See to it that dockerd, the client and its compose and buildx plugins are here and new enough.

    Raises UnavailableError where that cannot be done: not root, not Debian, nobody asked for it, or another
    engine is running, which an upgrade of the package would restart.
    """
    if docker_is_enough():
        return
    if os.environ.get(MAY_INSTALL) != "1":
        raise UnavailableError(
            "Docker is missing or too old; `python -m tests.lab up` as root installs it on Debian"
        )
    if os.geteuid() != 0:
        raise UnavailableError("Docker is missing or too old, and only root can install it")
    if not Path("/etc/debian_version").exists():
        raise UnavailableError("Docker is missing or too old, and the lab installs it on Debian alone")
    if engine_of_the_machine():
        raise UnavailableError(
            "Docker is too old, and an upgrade would restart the engine that is running here"
        )
    _add_newer_suite()
    apt("update")
    install(*PACKAGES, suite=NEWER_SUITE)
    if not docker_is_enough():
        raise LabError(
            f"Docker was installed but is not version {_dotted(LEAST_ENGINE)} or later with Compose 2"
        )


def allow_install() -> None:
    """Let this process install packages: a person, or a continuous integration, has asked for the lab."""
    os.environ[MAY_INSTALL] = "1"


def docker_is_enough() -> bool:
    """Whether dockerd is at least LEAST_ENGINE and the client has its compose and buildx plugins."""
    plugins = ("docker-compose", "docker-buildx")
    return (
        _version("dockerd") >= LEAST_ENGINE
        and shutil.which("docker") is not None
        and all(any(Path(folder, plugin).exists() for folder in PLUGIN_FOLDERS) for plugin in plugins)
    )


def engine_of_the_machine() -> bool:
    """Whether an engine that is not the lab's answers at Docker's usual socket."""
    answer = (
        subprocess.run(
            ["docker", "--host", "unix:///var/run/docker.sock", "version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if shutil.which("docker")
        else None
    )
    return answer is not None and answer.returncode == 0


def ensure_debootstrap() -> None:
    """Install debootstrap if it is not here; root only."""
    if shutil.which("debootstrap") is None:
        apt("update")
        install("debootstrap")


def mirror() -> str:
    """The address of the main archive in this machine's apt sources."""
    return _field(_main_stanza(), "URIs").split()[0]


def install(*packages: str, suite: str | None = None) -> None:
    """Install packages without recommends, from `suite` if it is named."""
    target = ("-t", suite) if suite else ()
    apt("install", "-y", "--no-install-recommends", *target, *packages)


def apt(*arguments: str) -> None:
    """Run apt-get, which never asks; raise LabError with its last lines if it fails."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    done = subprocess.run(
        [
            "apt-get",
            "-q",
            "-o",
            "DPkg::Lock::Timeout=120",
            "-o",
            "Dpkg::Options::=--force-confold",
            *arguments,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise LabError(f"apt-get {' '.join(arguments)} failed:\n" + "\n".join(done.stdout.splitlines()[-15:]))


def _add_newer_suite() -> None:
    stanza = re.sub(r"(?m)^Suites:.*$", f"Suites: {NEWER_SUITE}", _main_stanza())
    NEWER_SOURCE.write_text(stanza + "\n")
    PIN.write_text(f"Package: *\nPin: release n={NEWER_SUITE}\nPin-Priority: 100\n")


def _main_stanza() -> str:
    """The stanza (deb822) of the machine's main archive, made from a one-line source if need be."""
    for file in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            if file != NEWER_SOURCE and re.search(r"(?m)^Suites:.*-updates", stanza):
                return re.sub(r"(?m)^#.*\n", "", stanza).strip()
    one_line = Path("/etc/apt/sources.list")
    text = one_line.read_text() if one_line.exists() else ""
    found = re.search(r"(?m)^deb (?:\[.*?\] )?(\S+) (?!\S*(?:-security|-updates))\S+ (.*\bmain\b.*)$", text)
    if found is None:
        raise UnavailableError("no main Debian archive was found in this machine's apt sources")
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    return f"Types: deb\nURIs: {found[1]}\nSuites: stable\nComponents: main\nSigned-By: {keyring}"


def _field(stanza: str, name: str) -> str:
    found = re.search(rf"(?m)^{name}:\s*(.+)$", stanza)
    if found is None:
        raise UnavailableError(f"this machine's main apt source has no {name}")
    return found[1]


def _version(program: str) -> tuple[int, ...]:
    if shutil.which(program) is None:
        return ()
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
