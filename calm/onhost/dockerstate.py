"""What the Docker Engine knows of the stack: containers, volumes, networks, images. Reads only.

Everything is asked over the socket, and at once where it waits. Docker's events show nothing of it but, where
the values of redis and postgres are to be had in no other way (`running.py`), a command in their containers.
"""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any, Callable, Iterator, Mapping, NamedTuple

from calm.onhost import running
from calm.onhost.cgroups import memory_limit
from calm.onhost.docker_api import Engine, quoted
from calm.onhost.dockerless import nothing
from calm.onhost.errors import EngineRefusalError, RefusedError, UnavailableError
from calm.onhost.masking import Masker, arguments, looks_secret
from calm.onhost.programs import docker_command
from calm.onhost.together import started, together

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
WORKING_FOLDER = "com.docker.compose.project.working_dir"
COMMAND_SECONDS = 10.0

_NANOSECONDS = 1_000_000_000
_PLUGIN_FOLDERS = (
    "~/.docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
    "/opt/homebrew/lib/docker/cli-plugins",
    "/Applications/Docker.app/Contents/Resources/cli-plugins",
)


class Asked(NamedTuple):
    """The Docker part of the probe's request."""

    project: str
    names: frozenset[str]
    directory: str | None
    volumes: tuple[str, ...]
    images: tuple[str, ...]
    ports: tuple[int, ...]
    running: dict[str, Any]

    @classmethod
    def of(cls, part: dict[str, Any]) -> Asked:
        """From the request's ``docker``."""
        directory = part.get("directory")
        return cls(
            project=part.get("project") or "",
            names=frozenset(part.get("names") or ()),
            directory=os.path.realpath(os.path.expanduser(directory)) if directory else None,
            volumes=tuple(name for name in part.get("volumes") or () if name),
            images=tuple(part.get("images") or ()),
            ports=tuple(int(port) for port in part.get("ports") or ()),
            running=part.get("running") or {},
        )


def begin(
    part: dict[str, Any], masker: Masker, passwords: Mapping[str, str], known_plugin: Mapping[str, Any]
) -> Callable[[], dict[str, Any]]:
    """Ask the engine; what takes long, other programs and the servers in containers, goes on after this.

    What comes back waits for it and gives ``docker``, ``containers``, ``volumes``, ``networks``, ``images``,
    ``image_env`` and ``running`` of the answer. ``masker`` has learned the containers' secrets by then, so
    that what is read meanwhile is masked with them. ``passwords`` are those that the host keeps, by server;
    ``known_plugin`` is the ``compose_plugin`` of an earlier answer.
    """
    asked = Asked.of(part)
    # Perhaps a process: on some hosts it takes longer than all questions to the engine.
    compose = started({"compose": lambda: compose_plugin(known_plugin)})
    try:
        engine = Engine.found()
        quick = _quick(engine, asked)
    except UnavailableError as refusal:
        return partial(_unavailable, refusal, compose)
    inspected = quick["containers"][1]
    values = started({"running": lambda: _values(engine, asked, inspected, passwords)})
    for one in inspected:
        learn_secrets(one, masker)
    return partial(_answer, engine, asked, masker, quick, compose, values)


def _unavailable(refusal: UnavailableError, compose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    answer = nothing(refusal.status, refusal.what)
    if answer["docker"]["command"]:
        answer["docker"] |= _compose(compose()["compose"])
    return answer


def _compose(plugin: dict[str, Any]) -> dict[str, Any]:
    return {"compose": plugin["version"], "compose_plugin": plugin if plugin["path"] else None}


def _quick(engine: Engine, asked: Asked) -> dict[str, Any]:
    return together(
        {
            "containers": lambda: _containers(engine, asked),
            "api": engine.api_version,
            "info": lambda: engine.get("/info"),
            "networks": lambda: engine.get("/networks"),
            "volumes": lambda: engine.get("/volumes")["Volumes"] or [],
            "images": lambda: {name: _image(engine, name) for name in asked.images},
        }
    )


def _answer(
    engine: Engine,
    asked: Asked,
    masker: Masker,
    quick: dict[str, Any],
    compose: Callable[[], dict[str, Any]],
    running_values: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    try:
        found = {**quick, **compose(), **running_values()}
    except UnavailableError as refusal:
        return _unavailable(refusal, compose)
    listed, inspected = found["containers"]
    values = found["running"]
    return {
        "docker": _docker(engine, found),
        "containers": [_container(one, masker) for one in inspected],
        "volumes": _volumes(asked, found["volumes"], inspected, values),
        "networks": {one["Name"]: _network(one, listed) for one in found["networks"]},
        "images": {name: one and str(one["Id"]) for name, one in found["images"].items()},
        "image_env": {one["Id"]: _env(one, masker) for one in found["images"].values() if one},
        "running": masker.value({name: value for name, value in values.items() if name in asked.running}),
        "published": _published(listed),
    }


def _docker(engine: Engine, found: dict[str, Any]) -> dict[str, Any]:
    info = found["info"]
    return {
        "command": engine.command,
        "socket": engine.endpoint.address,
        "status": "answers",
        "error": None,
        "version": info.get("ServerVersion"),
        "api": found["api"],
        **_compose(found["compose"]),
        "desktop": info.get("OperatingSystem") == "Docker Desktop",
        "rootless": any("rootless" in option for option in info.get("SecurityOptions") or ()),
        "cpus": info.get("NCPU"),
        "memory_bytes": info.get("MemTotal"),
        "cgroup": info.get("CgroupVersion"),
        "swap_limit": info.get("SwapLimit"),
        "gateway": _gateway(found["networks"]),
    }


def _gateway(networks: list[dict[str, Any]]) -> str | None:
    """The host's address on Docker's default bridge, where a container finds the host."""
    for one in networks:
        if one["Name"] == "bridge":
            for config in (one.get("IPAM") or {}).get("Config") or ():
                if config.get("Gateway"):
                    return str(config["Gateway"])
    return None


def compose_plugin(known: Mapping[str, Any]) -> dict[str, Any]:
    """The ``version`` of Docker Compose, None if there is none, and the plugin's ``path`` and ``stamp``.

    The same file as ``known`` is of the same version and is not started. Asking the plugin itself for its
    metadata takes a seventh of the time of ``docker compose version``, but still as long as this Python.
    """
    for path in _plugins():
        stamp = _stamp(path)
        if stamp and (known.get("path"), known.get("stamp")) == (path, stamp):
            return {"path": path, "stamp": stamp, "version": _clean(known.get("version"))}
        said = _output([path, "docker-cli-plugin-metadata"])
        if said:
            return {"path": path, "stamp": stamp, "version": _version_in(said)}
    command = docker_command()
    shown = _output([command, "compose", "version", "--short"]) if command else None
    return {"path": None, "stamp": None, "version": _clean(shown)}


def _stamp(path: str) -> str | None:
    """What changes with every installation of a file, whatever it is told of its age."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return f"{found.st_dev}-{found.st_ino}-{found.st_size}-{found.st_ctime_ns}"


def _plugins() -> Iterator[str]:
    folders = [os.path.expanduser(folder) for folder in _PLUGIN_FOLDERS]
    configured = os.environ.get("DOCKER_CONFIG")
    for folder in [os.path.join(configured, "cli-plugins"), *folders] if configured else folders:
        path = os.path.join(folder, "docker-compose")
        if os.access(path, os.X_OK):
            yield path


def _version_in(metadata: str) -> str | None:
    try:
        return _clean(json.loads(metadata).get("Version"))
    except (ValueError, AttributeError):
        return None


def _clean(version: str | None) -> str | None:
    return (version or "").strip().lstrip("v") or None


def _output(argv: list[str]) -> str | None:
    import subprocess

    try:
        done = subprocess.run(argv, capture_output=True, timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _image(engine: Engine, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = engine.get(f"/images/{quoted(name)}/json")
        return found
    except EngineRefusalError:
        return None


def _containers(engine: Engine, asked: Asked) -> tuple[list[Any], list[Any]]:
    """The list of all containers, and those of the stack inspected."""
    listed = engine.get("/containers/json", all=1)
    looked = together({one["Id"]: _look(engine, one["Id"]) for one in listed if _concerns(one, asked)})
    return listed, [inspected for inspected in looked.values() if inspected]


def _look(engine: Engine, identity: str) -> Callable[[], Any]:
    def look() -> Any:
        try:
            return engine.get(f"/containers/{identity}/json")
        except EngineRefusalError:
            return None  # removed since it was listed

    return look


def _values(
    engine: Engine, asked: Asked, inspected: list[Any], passwords: Mapping[str, str]
) -> dict[str, Any]:
    """The running values asked for, by service, each from the server in its container."""
    by_name = {one["Name"].lstrip("/"): one for one in inspected}

    def value(name: str, spec: dict[str, Any]) -> dict[str, Any]:
        one = by_name.get(spec["container"])
        if one is None:
            return {"error": f"the container {spec['container']} does not exist"}
        try:
            return running.read(name, engine, one, spec, passwords)
        except RefusedError as refusal:
            return {"error": str(refusal)}

    return together({name: partial(value, name, spec) for name, spec in asked.running.items()})


def _concerns(listed: dict[str, Any], asked: Asked) -> bool:
    labels = listed.get("Labels") or {}
    if asked.project and asked.project in (labels.get(PROJECT), labels.get("calm.project")):
        return True
    folder = labels.get(WORKING_FOLDER)
    if asked.directory and folder and os.path.realpath(folder) == asked.directory:
        return True
    return any(name.lstrip("/") in asked.names for name in listed.get("Names") or ())


def environment(inspected: dict[str, Any]) -> dict[str, str]:
    """The environment of a container, or what an image brings along for one."""
    pairs = (entry.partition("=") for entry in ((inspected.get("Config") or {}).get("Env") or ()))
    return {name: value for name, _, value in pairs}


def learn_secrets(inspected: dict[str, Any], masker: Masker) -> None:
    """Tells the masker every secret that the container's environment and command line show."""
    for name, value in environment(inspected).items():
        if looks_secret(name):
            masker.learn(value)
    config = inspected["Config"]
    words = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    for value in masker.text("\n".join(words))[1].values():
        masker.learn(value)


def _container(one: dict[str, Any], masker: Masker) -> dict[str, Any]:
    state, config, host = one["State"], one["Config"], one["HostConfig"]
    labels = config.get("Labels") or {}
    return {
        "id": one["Id"],
        "name": one["Name"].lstrip("/"),
        "image": config["Image"],
        "image_id": one["Image"],
        "created": one["Created"],
        "started_at": state["StartedAt"],
        "state": state["Status"],
        "health": (state.get("Health") or {}).get("Status"),
        "exit_code": state["ExitCode"],
        "oom_killed": state["OOMKilled"],
        "restarts": one["RestartCount"],
        "labels": masker.value(labels),
        "service": labels.get(SERVICE),
        "project": labels.get(PROJECT),
        "env": _env(one, masker),
        "cmd": arguments(config.get("Cmd"), masker),
        "entrypoint": arguments(config.get("Entrypoint"), masker),
        "user": config.get("User") or "",
        "working_dir": config.get("WorkingDir") or "",
        "limits": _limits(host),
        "cgroup_memory": memory_limit(state.get("Pid") or 0),
        "mounts": [_mount(mount) for mount in one.get("Mounts") or ()],
        "networks": {
            name: {"aliases": to.get("Aliases") or [], "ip": to.get("IPAddress") or None}
            for name, to in (one["NetworkSettings"].get("Networks") or {}).items()
        },
        "network_mode": host.get("NetworkMode"),
        "ports": _ports(host),
        "healthcheck": _healthcheck(config.get("Healthcheck"), masker),
        "log": {"driver": host["LogConfig"]["Type"], "options": host["LogConfig"].get("Config") or {}},
    }


def _env(inspected: dict[str, Any], masker: Masker) -> dict[str, Any]:
    return {name: _value(name, value, masker) for name, value in environment(inspected).items()}


def _value(name: str, value: str, masker: Masker) -> Any:
    if value and (looks_secret(name) or masker.holds_secret(value)):
        return {"digest": masker.digest(value)}
    return value


def _limits(host: dict[str, Any]) -> dict[str, Any]:
    restart = host.get("RestartPolicy") or {}
    return {
        "memory": host.get("Memory") or 0,
        "memory_swap": host.get("MemorySwap") or 0,
        "memory_reservation": host.get("MemoryReservation") or 0,
        "nano_cpus": host.get("NanoCpus") or 0,
        "cpu_quota": host.get("CpuQuota") or 0,
        "cpu_period": host.get("CpuPeriod") or 0,
        "pids_limit": host.get("PidsLimit") or 0,
        "restart": restart.get("Name") or "no",
        "restart_max": restart.get("MaximumRetryCount") or 0,
    }


def _mount(mount: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": mount["Type"],
        "name": mount.get("Name"),
        "source": mount.get("Source"),
        "destination": mount["Destination"],
        "rw": mount.get("RW", True),
    }


def _ports(host: dict[str, Any]) -> list[dict[str, Any]]:
    """What the container was made with, which holds while it is stopped, too."""
    out = []
    for name, bindings in sorted((host.get("PortBindings") or {}).items()):
        inside, _, protocol = name.partition("/")
        for binding in bindings or ():
            port = binding.get("HostPort") or ""
            out.append(
                {
                    "container": int(inside),
                    "protocol": protocol,
                    "host_ip": binding.get("HostIp") or "",
                    "host_port": int(port) if port.isdigit() else None,
                }
            )
    return out


def _healthcheck(check: dict[str, Any] | None, masker: Masker) -> dict[str, Any] | None:
    if not check or check.get("Test") in (None, [], ["NONE"]):
        return None
    names = {"interval": "Interval", "timeout": "Timeout", "start_period": "StartPeriod"}
    seconds = {**names, "start_interval": "StartInterval"}
    spans = {key: (check.get(name) or 0) / _NANOSECONDS for key, name in seconds.items()}
    return {"test": arguments(check["Test"], masker), "retries": check.get("Retries") or 0, **spans}


def _network(one: dict[str, Any], listed: list[dict[str, Any]]) -> dict[str, Any]:
    """``containers`` are the names of those on it; a stopped one needs its network, too."""
    return {"id": one["Id"], "labels": one.get("Labels") or {}, "containers": on_network(one["Name"], listed)}


def on_network(name: str, listed: list[dict[str, Any]]) -> list[str]:
    """The names of the listed containers, running or not, that are on a network."""
    return sorted(
        one["Names"][0].lstrip("/")
        for one in listed
        if one.get("Names") and name in ((one.get("NetworkSettings") or {}).get("Networks") or {})
    )


def _volumes(
    asked: Asked, listed: list[dict[str, Any]], inspected: list[dict[str, Any]], values: dict[str, Any]
) -> dict[str, Any]:
    known = {one["Name"]: one for one in listed}
    mounted = {mount["Name"] for one in inspected for mount in one.get("Mounts") or () if mount.get("Name")}
    return {
        name: _volume(known.get(name), _version_on(name, inspected, values))
        for name in sorted({*asked.volumes, *mounted})
    }


def _volume(one: dict[str, Any] | None, version: str | None) -> dict[str, Any]:
    if one is None:
        return {"exists": False, "labels": {}, "mountpoint": None, "pg_version": None}
    return {
        "exists": True,
        "labels": one.get("Labels") or {},
        "mountpoint": one["Mountpoint"],
        "pg_version": _version_file(one["Mountpoint"]) or version,
    }


def _version_file(mountpoint: str) -> str | None:
    """The major version that made the data, which postgres writes beside it; root alone may look there."""
    try:
        with open(os.path.join(mountpoint, "PG_VERSION"), encoding="ascii") as file:
            return file.read(20).strip() or None
    except (OSError, ValueError):
        return None


def _version_on(volume: str, inspected: list[dict[str, Any]], values: dict[str, Any]) -> str | None:
    """The major version of the running postgres that has the volume mounted."""
    for one in inspected:
        mounts = {mount.get("Name") for mount in one.get("Mounts") or ()}
        for value in values.values():
            if volume in mounts and value.get("container") == one["Id"] and value.get("major"):
                return str(value["major"])
    return None


def _published(listed: list[dict[str, Any]]) -> dict[int, str]:
    """Which container holds which port of the host."""
    return {
        port["PublicPort"]: one["Names"][0].lstrip("/")
        for one in listed
        for port in one.get("Ports") or ()
        if port.get("PublicPort") and one.get("Names")
    }
