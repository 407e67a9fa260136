"""Commands on the host: any argv, and Docker Compose for a single service."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

from calm.onhost.errors import RefusedError
from calm.onhost.programs import docker_command
from calm.onhost.run import Outcome, Run

RUN_SECONDS = 60.0
COMPOSE_SECONDS = 900.0
"""An image may have to be pulled or built."""

TAIL = 12
"""Lines of a failed command's messages that are shown."""


def run(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{argv, stdin, cwd, env, timeout_s, okay: [0]}``: runs a command without a shell."""
    argv = [str(word) for word in effect["argv"]]
    refuse_volume_removal(argv)
    environ = {**os.environ, **(effect.get("env") or {})}
    code, said = execute(
        argv,
        stdin=(effect.get("stdin") or "").encode(),
        cwd=os.path.expanduser(effect["cwd"]) if effect.get("cwd") else None,
        environ=environ,
        timeout_s=float(effect.get("timeout_s") or RUN_SECONDS),
    )
    if code not in (effect.get("okay") or [0]):
        raise RefusedError(f"`{_shown(argv)}` ended with {code}: {_tail(run, said)}")
    return Outcome("done")


def compose(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{argv}`` (what follows ``docker compose``), or ``{file, project, services, image, build, recreate}``.

    The second form is ``up -d --no-deps`` for those services alone: a bare ``up`` would recreate what they
    depend on. Volumes are never removed.
    """
    words = [str(word) for word in effect.get("argv") or _up(effect)]
    words = words[2:] if words[:2] == ["docker", "compose"] else words
    command = docker_command()
    if command is None:
        raise RefusedError("the docker command is missing: install Docker's command line and run again")
    refuse_volume_removal(["docker", "compose", *words])
    environ = {**os.environ, "COMPOSE_ANSI": "never", "COMPOSE_PROGRESS": "plain", **_engine_address(run)}
    timeout_s = float(effect.get("timeout_s") or COMPOSE_SECONDS)
    code, said = execute([command, "compose", *words], environ=environ, timeout_s=timeout_s)
    if code != 0:
        image = f" (image {effect['image']})" if effect.get("image") else ""
        raise RefusedError(f"`docker compose {_shown(words)}`{image} ended with {code}: {_tail(run, said)}")
    return Outcome("done")


def _up(effect: dict[str, Any]) -> list[str]:
    flags = ["--build"] if effect.get("build") else []
    flags += ["--force-recreate"] if effect.get("recreate") else []
    if not effect.get("services"):
        raise RefusedError("Compose is called for named services alone")
    file = os.path.expanduser(effect["file"])
    return ["-f", file, "-p", effect["project"], "up", "-d", "--no-deps", *flags, *effect["services"]]


def _engine_address(run: Run) -> dict[str, str]:
    """Compose has to talk to the engine that the probe asked."""
    endpoint = run.engine.endpoint
    if endpoint.kind == "unix" and not os.environ.get("DOCKER_HOST"):
        return {"DOCKER_HOST": f"unix://{endpoint.address}"}
    return {}


def refuse_volume_removal(argv: list[str]) -> None:
    """No command of Docker's that takes volumes along is run, whoever asks for it."""
    if os.path.basename(argv[0]) not in ("docker", "docker-compose", "podman"):
        return
    words = set(argv[1:])
    removes = "volume" in words and words & {"rm", "remove", "prune"}
    takes_along = words & {"down", "rm", "prune", "up", "create"} and words & {"-v", "--volumes", "-V"}
    joined = words & {"down", "rm"} and any(
        word[:1] == "-" and word[:2] != "--" and "v" in word for word in words
    )
    if removes or takes_along or joined or "--renew-anon-volumes" in words:
        raise RefusedError(f"calm never removes a volume: `{_shown(argv)}` is not run")


def execute(
    argv: list[str],
    *,
    stdin: bytes = b"",
    cwd: str | None = None,
    environ: dict[str, str] | None = None,
    timeout_s: float = RUN_SECONDS,
) -> tuple[int, str]:
    """The exit code, and what stood on stderr, or on stdout if nothing did. What takes too long is killed."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environ,
            start_new_session=os.name == "posix",
        )
    except FileNotFoundError as error:
        raise RefusedError(f"{error.filename} does not exist") from None
    try:
        out, err = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise RefusedError(f"`{_shown(argv)}` took longer than {timeout_s:g} s and was ended") from None
    return process.returncode, (err.strip() or out.strip()).decode("utf-8", "replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that we started, with all that it started."""
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def _shown(argv: list[str]) -> str:
    return " ".join(argv)


def _tail(run: Run, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return run.masker.hide_output("; ".join(lines[-TAIL:])) or "it said nothing"
