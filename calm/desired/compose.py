"""The Compose file: the template, with ``docker.services`` merged over it and a stamp on each service.

The stamp is the hash of all that needs a new container: the service as rendered, without what
``docker update`` can set, with the contents of the documents that it mounts, and a rotation counter in place
of each secret. Compose's own hash is not used: it changes between its releases and sees no content.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from calm.desired.host import Host
from calm.desired.old_stack import NETWORK, OUR_LABEL
from calm.desired.stack import REDIS_AUTH, Stack, llm_url, relay_script, stack
from calm.desired.templates import parsed, render
from calm.settings.sizing import postgres_parameters, redis_maxmemory

if TYPE_CHECKING:
    from ruamel.yaml import YAML

STAMP = "calm.stamp"
LIVE = frozenset({"mem_limit", "memswap_limit", "mem_reservation", "cpus", "pids_limit", "restart"})
"""The keys that ``docker update`` sets on a running container."""

_PROJECT_LABEL = re.compile(r"(?m)^    labels:\n(      )calm\.project: .+\n")
"""The label that the template gives each service; one in its section ``build`` lies deeper."""

_NOT_STAMPED = LIVE | {"depends_on", "build"}
_LOCAL_HEALTH = "http://127.0.0.1:5000/api/health"


@dataclass(frozen=True, kw_only=True)
class Compose:
    """The rendered file, its services (stamps in their labels), and what they mount: path to content."""

    text: str
    services: Mapping[str, Mapping[str, Any]]
    mounted: Mapping[str, str]
    stack: Stack


def compose(host: Host) -> Compose:
    """The Compose file of ``host``.

    Raises:
        calm.desired.templates.TemplateError: the template is broken.
    """
    values = stack(host)
    mounted = {values.redis_conf: redis_conf(host)}
    if values.relay:
        mounted[values.relay.script] = relay_script()
    rendered = render(
        "docker/docker-compose.yml.j2",
        docker=host.settings.docker,
        stack=values,
        postgres_parameters=postgres_parameters(host.settings.docker.postgres),
        llm_url=llm_url(host),
        health_url=_LOCAL_HEALTH,
    )
    rotations = dict(host.settings.secrets.rotate)
    text, services = _assembled(
        rendered,
        host.settings.docker.project,
        json.dumps(host.settings.docker.services, sort_keys=True),
        json.dumps(mounted, sort_keys=True),
        json.dumps(rotations, sort_keys=True),
    )
    return Compose(text=text, services=services, mounted=mounted, stack=values)


def redis_conf(host: Host) -> str:
    """redis.conf of ``host``; the password is in a file that it includes."""
    redis = host.settings.docker.redis
    return render("docker/redis.conf.j2", redis=redis, maxmemory=redis_maxmemory(redis))


def secret_names(service: Mapping[str, Any]) -> tuple[str, ...]:
    """The secrets that a rendered service mounts."""
    return tuple(one if isinstance(one, str) else one["source"] for one in service.get("secrets") or ())


def bind_sources(service: Mapping[str, Any]) -> tuple[str, ...]:
    """The files and folders of the host that a rendered service mounts."""
    volumes = service.get("volumes") or ()
    return tuple(one["source"] for one in volumes if isinstance(one, dict) and one.get("type") == "bind")


@lru_cache(maxsize=8)
def _assembled(
    rendered: str, project: str, raw: str, mounted: str, rotations: str
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Cached, since several parts of one plan ask for the same file; all arguments are text for that."""
    contents, counters = json.loads(mounted), json.loads(rotations)
    if raw == "{}":
        plain = _stamped(rendered, contents, counters)
        if plain is not None:
            return plain
    yaml = _yaml()
    whole = yaml.load(rendered)
    for name, keys in json.loads(raw).items():
        whole["services"][name] = _merged(whole["services"].get(name) or {}, _quoted(keys))
    for name, service in whole["services"].items():
        _complete(name, service, project)
        _label(service, STAMP, _stamp(service, contents, counters))
    out = io.StringIO()
    yaml.dump(whole, out)
    return _spaced(out.getvalue()), json.loads(json.dumps(whole["services"]))


def _stamped(
    rendered: str, contents: Mapping[str, str], counters: Mapping[str, int]
) -> tuple[str, dict[str, dict[str, Any]]] | None:
    """The template as it is with a stamp put into each service: a tenth of the time of a round trip.

    None where that would not do: a key such as ``ON``, which is no text to YAML 1.1.
    """
    services = parsed(rendered)["services"]
    head, networks, tail = rendered.partition("\nnetworks:\n")
    labels = _PROJECT_LABEL.findall(head)
    if len(labels) != len(services) or not _texts(services):
        return None
    for service in services.values():
        _label(service, STAMP, _stamp(service, contents, counters))
    stamps = iter([service["labels"][STAMP] for service in services.values()])
    head = _PROJECT_LABEL.sub(lambda found: f"{found[0]}{found[1]}{STAMP}: {_scalar(next(stamps))}\n", head)
    return _spaced(head + networks + tail), services


def _texts(value: Any) -> bool:
    """Whether all keys in ``value`` are text."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _texts(inner) for key, inner in value.items())
    return not isinstance(value, list) or all(map(_texts, value))


def _scalar(stamp: str) -> str:
    """In quotes where it would be read as a number: ``12e34567`` is one."""
    return f"'{stamp}'" if re.fullmatch(r"\d+(e\d+)?", stamp) else stamp


def _spaced(text: str) -> str:
    """One empty line before each section and each service but the first, and no other."""
    lines: list[str] = []
    section = ""
    for line in filter(str.strip, text.splitlines()):
        above = lines[-1] if lines else "#"
        if re.match(r"[a-z]", line):
            section = line
            starts = not above.startswith("#")
        else:
            starts = section == "services:" != above and bool(re.match(r"  [\w.-]+:$", line))
        lines += ["", line] if starts else [line]
    return "\n".join(lines) + "\n"


def _yaml() -> YAML:
    """Keeps the template's comments, order and quotes."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    return yaml


def _quoted(value: Any) -> Any:
    """Strings in double quotes on one line: plain, ``22:22`` is a number to some readers of YAML."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(value, dict):
        return {key: _quoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    return DoubleQuotedScalarString(value) if isinstance(value, str) else value


def _merged(lower: Any, upper: Mapping[str, Any]) -> Any:
    """``upper`` laid over ``lower`` in place: mappings deeply, lists replaced, None takes a key away.

    Mounts and secrets are joined, as Compose does with a second file: a mount of one's own must not take
    the data folder away from a database. One of the same target takes the other's place.
    """
    for key, value in upper.items():
        if value is None:
            lower.pop(key, None)
        elif isinstance(value, dict) and isinstance(lower.get(key), dict):
            _merged(lower[key], value)
        elif key in JOINED and isinstance(value, list) and isinstance(lower.get(key), list):
            targets = {_target(one) for one in value}
            lower[key][:] = [*(one for one in lower[key] if _target(one) not in targets), *value]
        else:
            lower[key] = value
    return lower


JOINED = ("volumes", "secrets")


def _target(mount: Any) -> str:
    """Where a mount or a secret appears in the container: ``source:target:ro``, or a mapping."""
    if isinstance(mount, dict):
        return str(mount.get("target") or mount.get("source"))
    parts = str(mount).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _complete(name: str, service: Any, project: str) -> None:
    """What a service of the user's needs so that calm finds it and it finds the others."""
    replicas = (service.get("deploy") or {}).get("replicas") or service.get("scale")
    if "container_name" not in service and not replicas:
        service["container_name"] = f"{project}-{name}"
    if "networks" not in service and "network_mode" not in service:
        service["networks"] = [NETWORK]
    _label(service, OUR_LABEL, project)


def _label(service: Any, key: str, value: str) -> None:
    labels = service.setdefault("labels", {})
    if isinstance(labels, list):
        labels.append(f"{key}={value}")
    else:
        labels[key] = value


def _stamp(service: Any, contents: Mapping[str, str], counters: Mapping[str, int]) -> str:
    plain = json.loads(json.dumps(service))
    stamped = {
        "service": {key: value for key, value in plain.items() if key not in _NOT_STAMPED},
        "documents": {path: contents[path] for path in bind_sources(plain) if path in contents},
        "secrets": {name: counters.get(_counted(name), 0) for name in secret_names(plain)},
        "env": counters if "env_file" in plain else None,
    }
    return hashlib.sha256(json.dumps(stamped, sort_keys=True).encode()).hexdigest()[:32]


def _counted(secret: str) -> str:
    return "redis_password" if secret == REDIS_AUTH else secret
