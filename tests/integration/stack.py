"""A whole host for a test: a root, a home, an inventory and a Compose project of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from calm.drift.host import merged
from tests.integration.preloaded import Preloaded

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PLAIN = "CALM_PLAIN" in os.environ
LOOKS = ("plan", "validate", "settings", "status")
"""Commands that only look; one that changes a host is run as a user runs it, in a process of its own."""
CALM = (str(Path(sys.executable).parent / "calm"),)


@cache
def _preloaded() -> Preloaded:
    return Preloaded()


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both streams, for messages and for looking for secrets."""
        return f"{self.out}\n{self.err}"

    def json(self) -> Any:
        """Standard output, which has to be one document."""
        return json.loads(self.out)


@dataclass(kw_only=True)
class Stack:
    """One test's host on the lab's engine. ``settings`` is the mapping under ``calm``."""

    folder: Path
    docker_env: Mapping[str, str]
    project: str
    ports: Mapping[str, int]
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        base = {
            "root": str(self.root),
            "docker": {
                "project": self.project,
                "postgres": {"port": self.ports["postgres"]},
                "redis": {"port": self.ports["redis"]},
                "agent_api": {"port": self.ports["agent-api"], "image": "calm-test/agent-api"},
            },
            "agent": {"enabled": False},
            "schedules": {"backend": "none"},
        }
        self.settings = merged(base, self.settings)
        self.write()

    @property
    def root(self) -> Path:
        """calm's folder on this host."""
        return self.folder / "calm"

    @property
    def home(self) -> Path:
        """The user's home, where LM Studio's files would be."""
        return self.folder / "home"

    @property
    def inventory(self) -> Path:
        """The inventory file, rewritten by :meth:`write`."""
        return self.folder / "inventory.py"

    def write(self, **changes: Any) -> None:
        """Write the inventory, with ``changes`` merged into the settings from now on."""
        self.settings = merged(self.settings, changes)
        self.inventory.write_text(f"hosts = [('@local', {{'calm': {self.settings!r}}})]\n")

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a command on this host."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("CALM_", "DOCKER_"))}
        docker = {key: value for key, value in self.docker_env.items() if key.startswith("DOCKER_")}
        return kept | docker | {"HOME": str(self.home), "NO_COLOR": "1"} | more

    def calm(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        text: str | None = "",
        timeout: float = 240,
    ) -> Result:
        """Run ``calm COMMAND [this inventory] …``."""
        command, *rest = arguments
        whole = [command, str(self.inventory), *rest]
        if PLAIN or text is None or command not in LOOKS:
            return self.run([*CALM, *whole], env=env, text=text, timeout=timeout)
        code, out, err = _preloaded().run(
            whole, env=self.environment(**(env or {})), text=text, timeout=timeout
        )
        return Result(code=code, out=out, err=err)

    def run(
        self,
        argv: list[str],
        *,
        env: Mapping[str, str] | None = None,
        text: str | None = "",
        timeout: float = 240,
    ) -> Result:
        """Run any command in the checkout, with this host's environment."""
        done = subprocess.run(
            argv,
            cwd=CHECKOUT,
            env=self.environment(**(env or {})),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(code=done.returncode, out=done.stdout, err=done.stderr)

    def plan(self, *arguments: str) -> Result:
        """``calm plan --json``."""
        return self.calm("plan", "--json", *arguments)

    def apply(self, *arguments: str, code: int = 0) -> Result:
        """``calm apply --yes``, which has to end with ``code``."""
        result = self.calm("apply", "--yes", *arguments)
        assert result.code == code, result.said
        return result

    def pending(self) -> dict[str, Any]:
        """What plan finds, by resource id."""
        return {resource["id"]: resource for resource in self.plan().json()["hosts"][0]["resources"]}

    def docker(self, *arguments: str, check: bool = True, text: str | None = None) -> str:
        """Run docker against the lab's engine; its standard output."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment(),
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def name(self, service: str) -> str:
        """The container's name of a service."""
        return f"{self.project}-{ {'agent-api': 'api'}.get(service, service) }"

    def inspect(self, service: str) -> Any:
        """``docker inspect`` of a service's container."""
        return json.loads(self.docker("inspect", self.name(service)))[0]

    def alive(self) -> dict[str, tuple[str, str]]:
        """Id and start time of every container of the project, by name."""
        rows = self.docker(
            "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}"
        ).split()
        if not rows:
            return {}
        found = json.loads(self.docker("inspect", *rows))
        return {row["Name"].lstrip("/"): (row["Id"], row["State"]["StartedAt"]) for row in found}

    def sick(self) -> str:
        """The containers of the project that do not say that they are well."""
        label = f"label=com.docker.compose.project={self.project}"
        rows = self.docker("ps", "-a", "--filter", label, "--format", "{{.Names}} {{.Status}}").splitlines()
        return "\n".join(row for row in rows if "(healthy)" not in row)

    def files(self) -> dict[str, str]:
        """Every file of this host with its mode, and a hash of its bytes or the target of a link."""
        return {
            f"{path.relative_to(self.folder)} {path.lstat().st_mode:o}": _fingerprint(path)
            for path in sorted(self.folder.rglob("*"))
            if path.is_symlink() or path.is_file()
        }

    def redis(self, *command: str) -> str:
        """Ask redis, with the password that is on this host."""
        script = 'REDISCLI_AUTH="$(cat /run/secrets/redis_password)" exec redis-cli "$@"'
        return self.docker("exec", self.name("redis"), "sh", "-c", script, "sh", *command)

    def sql(self, statement: str, *, user: str = "agent_user", database: str = "agent_system") -> str:
        """Ask postgres."""
        argv = ["exec", "-i", self.name("postgres"), "psql", "-U", user, "-d", database, "-Atqc", statement]
        return self.docker(*argv)

    def secret(self, name: str) -> str:
        """The value of a secret on this host."""
        return (self.root / "secrets" / name).read_text().strip()

    def sweep(self) -> None:
        """Take away all that this test left on the engine, volumes too: they are the test's own."""
        label = f"label=com.docker.compose.project={self.project}"
        for row in self.docker("ps", "-aq", "--filter", label, check=False).split():
            self.docker("rm", "-f", "-v", row, check=False)
        for row in self.docker("ps", "-aq", "--filter", f"name={self.project}", check=False).split():
            self.docker("rm", "-f", "-v", row, check=False)
        for kind in ("network", "volume"):
            for row in self.docker(kind, "ls", "-q", "--filter", f"name={self.project}", check=False).split():
                self.docker(kind, "rm", row, check=False)


def _fingerprint(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest()
