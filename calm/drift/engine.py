"""Whether a host has a Docker Engine that calm can work with; if not, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calm.desired.engine import LEAST_COMPOSE, LEAST_ENGINE, version
from calm.drift.model import Context, Refusal

_DOWN = {  # what happened, where the host itself does not say it, and what to do
    "down": (
        "The Docker Engine does not answer",
        "Start it (systemctl start docker, or Docker Desktop), then plan again.",
    ),
    "denied": (
        "This user has no right to the Docker Engine's socket",
        "Put the user into the group docker (usermod -aG docker USER) and log in anew, or log in as root.",
    ),
    "absent": (
        "There is no Docker Engine on this host",
        'Install Docker Engine and its Compose plugin, or set docker.enabled to "auto" or False.',
    ),
}


def left_out(context: Context) -> str | None:
    """Why the stack is left out on purpose; None if it is wanted here."""
    enabled, docker = context.settings.docker.enabled, context.state["docker"]
    if enabled is False:
        return "docker.enabled is off" + ("; its containers stay as they are" if _was_here(context) else "")
    if enabled == "auto" and docker["status"] == "absent" and not _command(docker) and not _was_here(context):
        return "there is neither a docker command nor an engine's socket"
    return None


def refusal(context: Context) -> Refusal | None:
    """Why the engine that should be there cannot be used."""
    docker = context.state["docker"]
    if docker["status"] != "answers":
        message, hint = _DOWN[docker["status"]]
        said = docker.get("error") or message
        return Refusal(message=f"{said[0].upper()}{said[1:]}.", hint=hint)
    if not _command(docker):
        return Refusal(
            message="The Docker Engine answers, but there is no docker command.",
            hint="Install Docker's command line (docker-ce-cli, or docker-cli on Debian), then plan again.",
        )
    return _too_old("Docker Engine", docker["version"], LEAST_ENGINE) or _compose(docker["compose"])


def _compose(found: str | None) -> Refusal | None:
    if found is None:
        return Refusal(
            message="The Compose plugin is missing: `docker compose` does not work here.",
            hint=f"Install Docker Compose {_text(LEAST_COMPOSE)} or newer (docker-compose-plugin, or "
            "docker-compose on Debian 13), then plan again.",
        )
    return _too_old("Docker Compose", found, LEAST_COMPOSE)


def _too_old(what: str, found: str | None, least: tuple[int, ...]) -> Refusal | None:
    if not version(found) or version(found) >= least:
        return None
    return Refusal(
        message=f"{what} {found} is too old: calm needs {_text(least)} or newer.",
        hint=f"Upgrade {what} on this host, then plan again.",
    )


def _text(least: tuple[int, ...]) -> str:
    return ".".join(map(str, least))


def _command(docker: Mapping[str, Any]) -> str | None:
    return docker.get("command")


def _was_here(context: Context) -> bool:
    return bool(context.record.get("services"))
