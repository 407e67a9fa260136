"""The files that calm owns whole on a host, but for secrets and schedules."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calm.desired import app_yaml, build, compose
from calm.desired.host import Host
from calm.desired.paths import COMPOSE_FILE, absolute, in_compose_directory
from calm.desired.stack import relay_script
from calm.settings.dump import to_json

if TYPE_CHECKING:
    from calm.settings import Settings

MODE = "0644"
"""redis and the relay read theirs as users of their own. None of calm's secrets stands in a document."""

CLOSED = "0600"
"""Of a Compose file with a secret that the user wrote among the raw keys of the settings."""

_NEEDS = {
    "document:compose": ("takeover", "document:compose-extra"),
    f"document:{app_yaml.COPY}": (app_yaml.ID,),
}


@dataclass(frozen=True, kw_only=True)
class Owned:
    """A file of calm's: its id, its absolute path on the host, its text and its mode.

    ``needs`` are ids of the resources that have to be right first.
    """

    id: str
    path: str
    content: str
    mode: str = MODE
    needs: tuple[str, ...] = ()


def paths(settings: Settings) -> dict[str, str]:
    """Where each document lies, by its id: relative to the root, absolute, or below ``~``."""
    beside = {
        "document:redis.conf": "redis.conf",
        "document:relay.py": "relay.py",
        **{f"document:{build.FOLDER}/{path}": f"{build.FOLDER}/{path}" for path in build.context(settings)},
        **({f"document:{app_yaml.COPY}": app_yaml.COPY} if app_yaml.has_copy(settings) else {}),
        "document:compose": COMPOSE_FILE,
    }
    found = {identity: in_compose_directory(settings, name) for identity, name in beside.items()}
    return {**found, "document:settings.json": "settings.json"}


def owned(host: Host) -> tuple[Owned, ...]:
    """The documents of ``host`` in the order of writing: the Compose file after what it names."""
    where = {identity: absolute(host, path) for identity, path in paths(host.settings).items()}
    contents = _contents(host)
    return tuple(
        Owned(
            id=identity,
            path=where[identity],
            content=content,
            mode=CLOSED if identity == "document:compose" and _holds_a_secret(host.settings) else MODE,
            needs=_NEEDS.get(identity, ()),
        )
        for identity, content in contents.items()
    )


def _holds_a_secret(settings: Settings) -> bool:
    return to_json(settings) != to_json(settings, mask=False)


def _contents(host: Host) -> dict[str, str]:
    return {**_of_stack(host), "document:settings.json": _settings(host)}


def _of_stack(host: Host) -> dict[str, str]:
    """Nothing where Docker is off for good; where containers of ours still run, their files stay."""
    if host.settings.docker.enabled is False and not host.record.get("services"):
        return {}
    whole = compose.compose(host)
    context = build.context(host.settings)
    return {
        "document:redis.conf": compose.redis_conf(host),
        **({"document:relay.py": relay_script()} if whole.stack.relay else {}),
        **{f"document:{build.FOLDER}/{path}": content for path, content in context.items()},
        **({f"document:{app_yaml.COPY}": app_yaml.copy(host)} if whole.stack.api.chain else {}),
        "document:compose": whole.text,
    }


def _settings(host: Host) -> str:
    """What the agent reads. Secrets have no place in it."""
    return json.dumps(to_json(host.settings), indent=2, ensure_ascii=False) + "\n"
