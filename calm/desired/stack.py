"""What the Compose template needs beside the settings: figures and names that depend on the host."""

from __future__ import annotations

import ipaddress
import posixpath
from dataclasses import dataclass
from typing import Any

from calm.desired import app_yaml, build, engine, old_stack, paths, volumes
from calm.desired.host import Host
from calm.desired.templates import checkout

PYTHON_IMAGE = "python:3.12-slim"
"""The relay's image: the base of the reference agent API, so that the host has it already."""

RELAY_CPUS = 0.25
SECRETS = ("postgres_password", "redis_password", "jwt_secret")
"""What the agent API is given, and ``gemini_api_key`` where there is one."""

REDIS_AUTH = "redis_auth"
"""The secret of the Compose file that holds redis' line with its password."""

ENV_FILE = "agent_api.env"
"""Beside the secrets: their values as variables, for an API that reads nothing else."""


@dataclass(frozen=True, kw_only=True)
class Relay:
    """The relay to LM Studio: where it listens, and its script on the host.

    ``others`` are ports of further local providers, passed on only while somebody listens on 127.0.0.1.
    """

    image: str
    address: str
    port: int
    others: tuple[int, ...]
    script: str


@dataclass(frozen=True, kw_only=True)
class Api:
    """The agent API: ``context`` is the build context on the host, None for an image that is not built.

    ``chain`` is the folder with its copy of app.yaml's section, None for an API of the user's own.
    """

    image: str
    context: str | None
    chain: str | None
    arguments: tuple[str, ...]
    health_check_interval: int
    secrets: tuple[str, ...]
    env_file: str | None


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network of the services; one that calm has not made is left alone."""

    name: str
    ours: bool


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The values of the template. ``cpus`` are those that take effect on this host."""

    project: str
    directory: str
    address: str
    containers: dict[str, str]
    cpus: dict[str, float]
    volumes: dict[str, volumes.Source]
    networks: tuple[str, ...]
    network: Network
    pgdata: str
    redis_conf: str
    extra_file: str | None
    relay: Relay | None
    api: Api
    secret_files: dict[str, str]
    start_interval: bool

    @property
    def named_volumes(self) -> dict[str, str]:
        """Docker's names of the volumes by their keys in the Compose file."""
        return {
            f"{service}_data": source.name
            for service, source in self.volumes.items()
            if source.folder is None
        }


def stack(host: Host) -> Stack:
    """The values for ``host``."""
    docker = host.settings.docker
    folder = paths.absolute(host, paths.compose_directory(host.settings))
    api = _api(host, folder)
    return Stack(
        project=old_stack.project(host),
        directory=folder,
        address=_address(docker.bind),
        containers=container_names(docker.project),
        cpus=_cpus(host),
        volumes={service: volumes.source(host, service) for service in volumes.TARGETS},
        networks=(old_stack.NETWORK, *old_stack.joined_networks(host)),
        network=_network(host),
        pgdata=volumes.pgdata(host),
        redis_conf=f"{folder}/redis.conf",
        extra_file=f"{folder}/{paths.EXTRA_FILE}" if old_stack.extra_services(host) else None,
        relay=_relay(host, folder),
        api=api,
        secret_files=_secret_files(host, api),
        start_interval=engine.has_start_interval(engine.facts(host)),
    )


def container_names(project: str) -> dict[str, str]:
    """The containers of calm's own services, by service."""
    ends = {"postgres": "postgres", "redis": "redis", "relay": "relay", "agent-api": "api"}
    return {service: f"{project}-{end}" for service, end in ends.items()}


def llm_url(host: Host) -> str:
    """LM Studio's end point as a container sees it."""
    return f"http://host.docker.internal:{host.settings.lmstudio.server.port}/v1"


def relay_script() -> str:
    """The relay's program. It is no template: braces mean something else in it."""
    return (checkout() / "templates" / "docker" / "relay.py").read_text(encoding="utf-8")


def _api(host: Host, folder: str) -> Api:
    settings = host.settings.docker.agent_api
    files = build.context(host.settings)
    given = ("gemini_api_key",) if host.settings.secrets.gemini_api_key is not None else ()
    as_env = settings.secrets_as == "env"
    return Api(
        image=settings.image or build.tag(host.settings.docker.project, files),
        context=posixpath.join(folder, build.FOLDER) if files else None,
        chain=posixpath.join(folder, app_yaml.FOLDER) if app_yaml.has_copy(host.settings) else None,
        arguments=build.PIP_ARGUMENTS if build.is_reference(host.settings) else (),
        health_check_interval=max(1, round(settings.health_check_interval)),
        secrets=(*SECRETS, *given),
        env_file=paths.secret_path(host, ENV_FILE) if as_env else None,
    )


def _secret_files(host: Host, api: Api) -> dict[str, str]:
    names = ["postgres_password", "redis_password"]
    if host.settings.docker.agent_api.enabled and not api.env_file:
        names += [name for name in api.secrets if name not in names]
    # A file that the effect for redis_password writes beside it, in the form in which redis includes it.
    auth = {REDIS_AUTH: paths.secret_path(host, f"{REDIS_AUTH}.conf")}
    return {name: paths.secret_path(host, name) for name in names} | auth


def _cpus(host: Host) -> dict[str, float]:
    """More than the host has is refused by Docker; the smaller figure is the one that takes effect."""
    docker, most = host.settings.docker, engine.facts(host).get("cpus")
    wanted = {
        "postgres": docker.postgres.cpus,
        "redis": docker.redis.cpus,
        "relay": RELAY_CPUS,
        "agent-api": docker.agent_api.cpus,
    }
    return {service: _plain(min(cpus, most or cpus)) for service, cpus in wanted.items()}


def _plain(cpus: float) -> float:
    return int(cpus) if cpus == int(cpus) else cpus


def _address(bind: str) -> str:
    return f"[{bind}]" if ipaddress.ip_address(bind).version == 6 else bind


def _network(host: Host) -> Network:
    name = old_stack.network_name(host)
    return Network(name=name, ours=old_stack.network_is_ours(host, name))


def _relay(host: Host, folder: str) -> Relay | None:
    """Only where a container cannot reach 127.0.0.1 of the host otherwise, and LM Studio is to be reached."""
    docker, server = engine.facts(host), host.settings.lmstudio.server
    if not docker.get("gateway") or docker.get("desktop") or docker.get("rootless"):
        return None
    if host.state["host"]["system"] != "Linux" or not ipaddress.ip_address(server.bind).is_loopback:
        return None
    found: dict[str, Any] = host.state.get("lmstudio") or {}
    # Its files, not its processes: the stack must not change each time that LM Studio starts or ends.
    wanted = host.settings.lmstudio.enabled
    if wanted == "auto":
        wanted = found.get("generation") not in (None, "none")
    if not wanted:
        return None
    asked = app_yaml.local_ports(host) if app_yaml.has_copy(host.settings) else ()
    return Relay(
        image=PYTHON_IMAGE,
        address=docker["gateway"],
        port=server.port,
        others=tuple(port for port in asked if port != server.port),
        script=f"{folder}/relay.py",
    )
