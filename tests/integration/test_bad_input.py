"""Bad input of every kind: the right exit code, one clear message with what to do, nothing lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Build
from tests.integration.stack import CALM, CHECKOUT, Result, Stack
from tests.lab.engine import Engine

pytestmark = pytest.mark.engine


@dataclass(frozen=True, kw_only=True)
class Bad:
    """One bad input. ``arrange`` makes the host or the inventory bad; ``says`` has to stand in the output."""

    name: str
    code: int
    says: tuple[str, ...]
    arrange: Callable[[Stack], None] = lambda _: None
    command: tuple[str, ...] = ("plan",)
    env: dict[str, str] = field(default_factory=dict)


def calm(**settings: Any) -> Callable[[Stack], None]:
    return lambda stack: stack.write(**settings)


def inventory(text: str | None) -> Callable[[Stack], None]:
    def arrange(stack: Stack) -> None:
        stack.inventory.unlink()
        if text is not None:
            stack.inventory.write_text(text)

    return arrange


def root_is_a_file(stack: Stack) -> None:
    stack.root.write_text("mine")


def link_that_leads_out(stack: Stack) -> None:
    outside = stack.folder / "outside"
    outside.mkdir()
    stack.root.mkdir()
    (stack.root / "docker").symlink_to(outside)


def app_yaml(text: str) -> Callable[[Stack], None]:
    def arrange(stack: Stack) -> None:
        stack.root.mkdir()
        (stack.root / "app.yaml").write_text(text)

    return arrange


def studio_settings(text: str) -> Callable[[Stack], None]:
    def arrange(stack: Stack) -> None:
        home = stack.home / ".lmstudio"
        (home / ".internal").mkdir(parents=True)
        (home / "settings.json").write_text(text)

    return arrange


CASES = (
    Bad(
        name="misspelt key",
        code=4,
        says=("calm.docker.redis.memroy", 'did you mean "memory"'),
        arrange=calm(docker={"redis": {"memroy": "1G"}}),
    ),
    Bad(
        name="wrong unit",
        code=4,
        says=("calm.docker.redis.memory", "512 parsecs"),
        arrange=calm(docker={"redis": {"memory": "512 parsecs"}}),
    ),
    Bad(
        name="negative cpus",
        code=4,
        says=("calm.docker.redis.cpus",),
        arrange=calm(docker={"redis": {"cpus": -1}}),
    ),
    Bad(
        name="limit under reservation",
        code=4,
        says=("memory_reserved",),
        arrange=calm(docker={"redis": {"memory": "128M", "memory_reserved": "256M"}}),
    ),
    Bad(
        name="maxmemory over limit",
        code=4,
        says=("maxmemory", "512M", "lower", "raise"),
        arrange=calm(docker={"redis": {"maxmemory": "512M"}}),
    ),
    Bad(
        name="pool larger than max_connections",
        code=4,
        says=("database_pool_size", "max_connections"),
        arrange=calm(docker={"agent_api": {"database_pool_size": 500}}),
    ),
    Bad(
        name="two errors at once",
        code=4,
        says=("calm.docker.redis.cpus", "calm.llm.max_retrys"),
        arrange=calm(docker={"redis": {"cpus": "many"}}, llm={"max_retrys": 1}),
    ),
    Bad(
        name="a secret in the inventory",
        code=4,
        says=("redis_password", "env"),
        arrange=calm(secrets={"redis_password": "hunter2-hunter2"}),
    ),
    Bad(
        name="secret from a variable that is not set",
        code=4,
        says=("NOT_THERE_AT_ALL",),
        arrange=calm(secrets={"redis_password": {"env": "NOT_THERE_AT_ALL"}}),
    ),
    Bad(
        name="data without value", code=4, says=("--data", "KEY=VALUE"), command=("plan", "--data", "docker")
    ),
    Bad(
        name="data with a misspelt key",
        code=4,
        says=("--data", "calm.docker.redis.memroy"),
        command=("plan", "--data", "docker.redis.memroy=1G"),
    ),
    Bad(name="inventory that is missing", code=4, says=("no inventory",), arrange=inventory(None)),
    Bad(name="inventory that is empty", code=3, says=("matches no host",), arrange=inventory("")),
    Bad(
        name="inventory that raises",
        code=4,
        says=("ZeroDivisionError",),
        arrange=inventory("hosts = [1 / 0]"),
    ),
    Bad(name="inventory with a syntax error", code=4, says=("SyntaxError",), arrange=inventory("hosts = [")),
    Bad(
        name="limit that matches nothing",
        code=3,
        says=("--limit nobody", "matches no host", "@local"),
        command=("plan", "--limit", "nobody"),
    ),
    Bad(
        name="only that names nothing", code=64, says=("--only sevice",), command=("plan", "--only", "sevice")
    ),
    Bad(name="misspelt option", code=64, says=("--jsno",), command=("plan", "--jsno")),
    Bad(name="misspelt command", code=64, says=("plna", "plan"), command=("plna",)),
    Bad(name="root is a file", code=1, says=("is a file", "calm.root"), arrange=root_is_a_file),
    Bad(name="a link that leads out", code=1, says=("leads out",), arrange=link_that_leads_out),
    Bad(name="app.yaml is not YAML", code=1, says=("app.yaml",), arrange=app_yaml("llm: [\n")),
    Bad(name="app.yaml is a list", code=1, says=("app.yaml",), arrange=app_yaml("- one\n")),
    Bad(
        name="settings.json is not JSON",
        code=1,
        says=("settings.json",),
        arrange=studio_settings("{ not json"),
    ),
    Bad(
        name="settings.json is not an object",
        code=1,
        says=("settings.json",),
        arrange=studio_settings("[]"),
    ),
    Bad(
        name="the engine is down",
        code=1,
        says=("Docker",),
        env={"DOCKER_HOST": "unix:///nowhere/docker.sock"},
        arrange=calm(docker={"enabled": True}),
    ),
    Bad(
        name="a docker.directory that is not there",
        code=1,
        says=("docker.directory names /srv/no-such-stack, and there is no such folder", "Make the folder"),
        arrange=calm(docker={"directory": "/srv/no-such-stack"}),
    ),
    Bad(
        name="an image that does not exist",
        code=1,
        says=("no-such-image",),
        arrange=calm(docker={"redis": {"image": "calm-test/no-such-image:1"}}),
        command=("apply", "--yes", "--only", "service:redis"),
    ),
    Bad(
        name="apply with no terminal and no yes",
        code=64,
        says=("--yes",),
        command=("apply", "--only", "document:app.yaml"),
    ),
    Bad(
        name="a service that is no mapping",
        code=4,
        says=("calm.docker.services",),
        arrange=calm(docker={"services": {"extra": ["not", "a", "mapping"]}}),
    ),
)


@pytest.fixture
def stack(build: Build) -> Stack:
    return build("bad")


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
def test_bad_input_is_told_plainly(stack: Stack, bad: Bad) -> None:
    bad.arrange(stack)
    before = stack.files()
    command, *rest = bad.command
    result = stack.calm(command, *rest, env=bad.env)
    assert result.code == bad.code, result.said
    for words in bad.says:
        assert words in result.said, result.said
    assert "Traceback" not in result.said
    if command != "apply":
        assert stack.files() == before


def test_what_an_inventory_prints_is_no_part_of_the_document(stack: Stack) -> None:
    stack.inventory.write_text(f"print('hello')\n{stack.inventory.read_text()}")
    result = stack.calm("plan", "--json")
    assert result.json()["command"] == "plan"
    assert "hello" in result.err


def test_a_broken_template_is_named_and_not_the_settings(stack: Stack, tmp_path: Path) -> None:
    """In a checkout of the user's own, where somebody has changed a template."""
    for name in ("deploy.py", "calm", "facts", "operations", "stack", "pyproject.toml"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    shutil.copytree(CHECKOUT / "templates", tmp_path / "templates")
    template = tmp_path / "templates" / "docker" / "redis.conf.j2"
    template.write_text(template.read_text() + "{{ docker.no_such_thing }}\n")
    argv = [*CALM, "plan", str(stack.inventory)]
    done = subprocess.run(
        argv, cwd=tmp_path, env=stack.environment(), capture_output=True, text=True, timeout=120, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 4, said
    assert "Correct templates/docker/redis.conf.j2, line " in said
    assert "Correct the settings" not in said


@pytest.mark.parametrize("moment", ["document:redis.conf", "document:compose", "document:settings.json"])
def test_ctrl_c_in_the_middle_leaves_nothing_half_done(stack: Stack, moment: str) -> None:
    run = subprocess.Popen(
        [*CALM, "apply", str(stack.inventory), "--yes", "--only", "document"],
        cwd=CHECKOUT,
        env=stack.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stderr is not None
    said = ""
    for line in run.stderr:
        said += line
        if moment in line:
            os.killpg(run.pid, signal.SIGINT)
            break
    said += "".join(run.communicate(timeout=60))
    assert run.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not list(stack.root.rglob(".calm-*.tmp"))
    assert not (stack.root / ".lock.json").exists()
    stack.apply("--only", "document")


def test_no_right_to_the_socket(stack: Stack) -> None:
    path = stack.folder / "docker.sock"
    rights = "-dac_override,-dac_read_search"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600)
        os.chown(path, 65534, 65534)
        result = stack.run(
            ["setpriv", "--bounding-set", rights, "--inh-caps", rights, *CALM, "plan", str(stack.inventory)],
            env={"DOCKER_HOST": f"unix://{path}"},
        )
    assert result.code == 1, result.said
    assert "no right to the Docker Engine's socket" in result.out
    assert "usermod -aG docker" in result.out
    assert "Traceback" not in result.said


COMPOSE = """#!/bin/sh
case "$1" in
docker-cli-plugin-metadata) echo '{"SchemaVersion":"0.1.0","Vendor":"x","Version":"v2.10.2"}' ;;
*) echo 2.10.2 ;;
esac
"""


@pytest.mark.parametrize(
    ("plugin", "says"), [(None, "Compose plugin is missing"), (COMPOSE, "Docker Compose 2.10.2 is too old")]
)
def test_a_compose_plugin_that_is_missing_or_too_old(stack: Stack, plugin: str | None, says: str) -> None:
    folder = stack.folder / "cli-plugins"
    folder.mkdir()
    if plugin is not None:
        (folder / "docker-compose").write_text(plugin)
        (folder / "docker-compose").chmod(0o755)
    result = _mounted(stack, _in_the_place_of_plugins(folder), "plan")
    assert result.code == 1, result.said
    assert says in result.out
    assert "then plan again" in result.out
    assert "Traceback" not in result.said


def test_a_read_only_root(stack: Stack) -> None:
    stack.root.mkdir()
    result = _mounted(stack, f"mount -t tmpfs -o ro none {stack.root}", "apply", "--yes")
    assert result.code == 1, result.said
    assert "cannot be written to" in result.out
    assert "Traceback" not in result.said


def test_a_full_disk_is_told_and_leaves_no_half_of_a_file(stack: Stack) -> None:
    stack.root.mkdir()
    kept = stack.folder / "kept"
    # What lies there afterwards is copied out, since the mount ends with the command.
    look = f'"$@"; code=$?; cp -a {stack.root} {kept}; exit $code'
    mount = f"mount -t tmpfs -o size=16k none {stack.root}; set -- sh -c '{look}' sh \"$@\""
    result = _mounted(stack, mount, "apply", "--yes", "--only", "document")
    assert result.code == 1, result.said
    assert "is full: free some space and run again" in result.out
    assert "Traceback" not in result.said
    assert not [path for path in kept.rglob("*") if path.name.startswith(".calm-") or not path.stat().st_size]


def _mounted(stack: Stack, mount: str, command: str, *arguments: str) -> Result:
    """Run calm in mounts of its own, after the script ``mount``."""
    argv = [*CALM, command, str(stack.inventory), *arguments]
    return stack.run(["unshare", "--mount", "sh", "-ec", f'{mount}; exec "$@"', "sh", *argv])


def _in_the_place_of_plugins(folder: Path) -> str:
    places = " ".join(f"/usr{local}/{lib}/docker/cli-plugins" for local in ("", "/local") for lib in LIBS)
    return f"for place in {places}; do [ ! -d $place ] || mount --bind {folder} $place; done"


LIBS = ("lib", "libexec")


def test_the_engine_dies_in_the_middle(stack: Stack, engine: Engine) -> None:
    """An engine behind a door that shuts for good as soon as the first document is written."""
    stack.write(docker={"agent_api": {"enabled": False}})
    path = stack.folder / "door.sock"
    with _Door(path, engine.socket) as door:
        run = subprocess.Popen(
            [*CALM, "apply", str(stack.inventory), "--yes"],
            cwd=CHECKOUT,
            env=stack.environment(DOCKER_HOST=f"unix://{path}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert run.stderr is not None
        for line in run.stderr:
            if "document:compose" in line:
                door.shut()
                break
        out, err = run.communicate(timeout=120)
    assert run.returncode == 1, out + err
    assert "service:postgres: failed" in out or "volume" in out
    assert "Traceback" not in out + err
    assert not (stack.root / ".lock.json").exists()
    stack.apply()
    assert stack.plan().code == 0


class _Door:
    """A socket that leads to the engine's until it is shut."""

    def __init__(self, path: Path, leads_to: str) -> None:
        self._path, self._leads_to = path, leads_to
        self._listener = socket.socket(socket.AF_UNIX)
        self._open: list[socket.socket] = []

    def __enter__(self) -> _Door:
        self._listener.bind(str(self._path))
        self._listener.listen(16)
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()

    def shut(self) -> None:
        """Let nobody in any more, and cut off whoever is inside."""
        self._path.unlink(missing_ok=True)
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                inside, _ = self._listener.accept()
                outside = socket.socket(socket.AF_UNIX)
                outside.connect(self._leads_to)
                self._open += [inside, outside]
                for pair in ((inside, outside), (outside, inside)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_a_port_of_another_program_is_named(stack: Stack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stack.ports["redis"]))
        taken.listen()
        result = stack.plan()
    assert result.code == 1, result.said
    assert str(stack.ports["redis"]) in result.said


def test_validate_touches_nothing(stack: Stack) -> None:
    before = stack.files()
    result = stack.calm("validate")
    assert result.code == 0, result.said
    assert "valid" in result.out
    assert stack.files() == before


def test_there_is_no_checkout_here(stack: Stack, tmp_path: Path) -> None:
    done = subprocess.run(
        [*CALM, "plan"], cwd=tmp_path, env=stack.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "no checkout" in done.stderr
