"""No secret, old or new, in any output, in Docker's own records, in argv, or in a file for others."""

from __future__ import annotations

import stat
import subprocess
import threading
from pathlib import Path

import pytest

from tests.integration.conftest import Build
from tests.integration.stack import CALM, CHECKOUT, Stack

pytestmark = pytest.mark.engine

GIVEN = "given-7Gq2-secret-of-the-inventory"
NAMES = ("postgres_password", "redis_password", "jwt_secret")


@pytest.fixture(scope="module")
def stack(build: Build) -> Stack:
    return build("secret", secrets={"redis_password": {"env": "CALM_TEST_REDIS"}})


def test_nothing_shows_a_secret(stack: Stack) -> None:
    given = {"CALM_TEST_REDIS": GIVEN}
    since = stack.docker("info", "--format", "{{.SystemTime}}")
    seen = _Argv()
    said = [stack.calm("plan", env=given).said]
    with seen:
        said.append(stack.calm("apply", "--yes", "--json", env=given).said)
    said.append(stack.calm("plan", "--all", "--json", env=given).said)
    stack.docker("update", "--cpus", "1.9", stack.name("redis"))
    (stack.root / "docker" / "redis.conf").chmod(0o600)
    said.append(stack.calm("plan", env=given).said)
    pyinfra = str(Path(CALM[0]).parent / "pyinfra")
    said.append(
        stack.run([pyinfra, "-y", "-vv", "--diff", str(stack.inventory), "deploy.py"], env=given).said
    )
    said.append(stack.calm("settings", env=given).said)
    said.append(stack.calm("apply", "--yes", env={"CALM_TEST_REDIS": "another-one-9Wd4"}).said)
    until = stack.docker("info", "--format", "{{.SystemTime}}")
    events = stack.docker("events", "--since", since, "--until", until, "--format", "{{json .}}")
    inspected = "".join(str(stack.inspect(service)) for service in ("postgres", "redis", "agent-api"))
    secrets = [GIVEN, "another-one-9Wd4", *(stack.secret(name) for name in NAMES)]
    assert stack.secret("redis_password") == "another-one-9Wd4"
    for value in secrets:
        assert all(value not in text for text in said)
        assert value not in events
        assert value not in inspected
        assert value not in seen.text
    for value in secrets:
        assert not _readable_by_others(stack.folder, value)


def test_two_machines_get_different_secrets(stack: Stack, build: Build) -> None:
    other = build("secret2")
    other.apply("--only", "secret")
    assert all(other.secret(name) != stack.secret(name) for name in NAMES)
    kept = {name: other.secret(name) for name in NAMES}
    other.apply("--only", "secret")
    assert {name: other.secret(name) for name in NAMES} == kept


def test_a_failing_apply_shows_no_secret(stack: Stack) -> None:
    stack.write(docker={"redis": {"image": "calm-test/no-such-image:1"}})
    result = stack.calm("apply", "--yes", env={"CALM_TEST_REDIS": "a-third-one-5Kx8"})
    assert result.code == 1, result.said
    assert "a-third-one-5Kx8" not in result.said
    assert "another-one-9Wd4" not in result.said


@pytest.mark.full
def test_secrets_as_variables_converge(build: Build) -> None:
    stack = build("asenv", docker={"agent_api": {"secrets_as": "env"}})
    assert "secrets in environment variables" in stack.calm("plan").out
    stack.apply()
    shown = stack.docker("exec", stack.name("agent-api"), "printenv", "REDIS_PASSWORD")
    assert shown == stack.secret("redis_password")
    assert stack.plan().code == 0


def _readable_by_others(folder: Path, value: str) -> list[Path]:
    """Files with ``value`` in them that a foreign user could open: no closed folder above them."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and value.encode() in path.read_bytes()
        and path.stat().st_mode & stat.S_IROTH
        and not _closed(path, folder)
    ]


def _closed(path: Path, folder: Path) -> bool:
    """Whether a folder between ``folder`` and ``path`` keeps other users out."""
    above = [parent for parent in path.parents if parent.is_relative_to(folder) and parent != folder]
    return any(not parent.stat().st_mode & stat.S_IXOTH for parent in above)


class _Argv:
    """Collects the command lines of every process while it is open."""

    def __init__(self) -> None:
        self.text = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Argv:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.text += subprocess.run(
                ["ps", "-eo", "args"], cwd=CHECKOUT, capture_output=True, text=True, check=True
            ).stdout
