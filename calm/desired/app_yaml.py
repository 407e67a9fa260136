"""The section ``llm`` of the application's app.yaml as an apply leaves it, and what the agent API gets of it.

The reference agent API runs as a user of its own and must see nothing of the application's other sections,
and a mounted file that is replaced stays the old one in its container. So it is given a copy of what it
reads, in a folder of its own: a change there holds from the next chat on, without a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from calm.desired import build
from calm.desired.host import Host

if TYPE_CHECKING:
    from calm.settings import Settings

ID = "document:app.yaml"
SECTION = "llm"

PROVIDER = "lmstudio"
MODEL = "local-model"
"""In a new file: LM Studio answers an unknown name with the model that is loaded."""

FOLDER = "agent"
"""Of the API's copy, beside the Compose file."""

COPY = f"{FOLDER}/app.yaml"

LOCAL_PORTS = {"ollama": 11434}
"""Where a provider listens on 127.0.0.1 if the file gives it no end point."""

_WHO = ("provider", "model", "endpoint")
_HOW = ("request_timeout", "connection_pool_size", "max_retries", "retry_backoff_ms")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def declared(settings: Settings, present: Mapping[str, Any], *, fresh: bool) -> dict[str, Any]:
    """The keys that calm sets in a section that holds ``present``; with ``fresh`` those of a new one too."""
    llm = settings.llm.model_dump(mode="json", exclude_none=True, include={*_WHO, *_HOW, "fallbacks"})
    llm["fallbacks"] = _fallbacks(llm["fallbacks"], present.get("fallbacks"))
    values = {key: _number(value) for key, value in llm.items()}
    new = {"enabled": True, "provider": PROVIDER, "model": MODEL, "endpoint": endpoint(settings)}
    return {**(new if fresh else {}), **values}


def endpoint(settings: Settings) -> str:
    """LM Studio's end point for chat, as a client on the same host reaches it."""
    server = settings.lmstudio.server
    address = ip_address(server.bind)
    host = "127.0.0.1" if address.is_unspecified else server.bind
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}/v1/chat/completions"


def has_copy(settings: Settings) -> bool:
    """Whether the agent API is the reference one, which obeys app.yaml."""
    return build.is_reference(settings) and bool(build.context(settings))


def copy(host: Host) -> str:
    """The text of the copy: the keys that the client reads, as they are after an apply."""
    import yaml

    head = "# Written by calm for the agent API. Edit app.yaml instead, then run calm apply.\n"
    return head + str(yaml.safe_dump({SECTION: after(host)}, allow_unicode=True, sort_keys=False, width=4096))


def after(host: Host) -> dict[str, Any]:
    """The section after an apply, without keys that the client does not read."""
    present = _present(host)
    whole = {**present, **declared(host.settings, present, fresh=not present)}
    fallbacks = [{key: one[key] for key in _WHO if key in one} for one in whole["fallbacks"]]
    told = {key: whole[key] for key in ("enabled", *_WHO, *_HOW) if key in whole}
    return {**told, "fallbacks": fallbacks}


def local_ports(host: Host) -> list[int]:
    """The ports on the host's 127.0.0.1 that the chain asks, in its order, each once."""
    section = after(host)
    return list(dict.fromkeys(_ports([section, *section["fallbacks"]])))


def _ports(entries: list[dict[str, Any]]) -> Iterator[int]:
    for entry in entries:
        given = str(entry.get("endpoint") or "")
        try:
            url = urlsplit(given)
            port = url.port or (443 if url.scheme == "https" else 80)
        except ValueError:
            continue
        if url.hostname in _LOOPBACK:
            yield port
        elif not given and entry.get("provider") in LOCAL_PORTS:
            yield LOCAL_PORTS[entry["provider"]]


def _present(host: Host) -> Mapping[str, Any]:
    """The section as it is; empty where the file cannot be read, which the drift of app.yaml says."""
    import yaml

    class Plain(yaml.SafeLoader):
        """Passes over tags that only the application knows."""

    Plain.add_multi_constructor("", lambda *_: None)
    text = (host.state["files"].get(ID) or {}).get("content")
    try:
        whole = yaml.load(text or "", Loader=Plain)
    except (yaml.YAMLError, ValueError):
        return {}
    section = whole.get(SECTION) if isinstance(whole, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _fallbacks(wanted: list[dict[str, Any]], present: Any) -> list[dict[str, Any]]:
    """The declared providers in their order, each with the keys that the file gives it beside ours."""
    there = [item for item in present if isinstance(item, Mapping)] if isinstance(present, list) else []
    by_provider = {str(item.get("provider")): item for item in reversed(there)}
    return [{"provider": one["provider"], **by_provider.get(one["provider"], {}), **one} for one in wanted]


def _number(value: Any) -> Any:
    """30 rather than 30.0, as people write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
