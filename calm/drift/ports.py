"""The ports of the host that services publish: taken by others, closed, opened."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from calm.desired.services import Service
from calm.drift.model import Change, Context, Refusal
from calm.drift.service_fields import declared, observed


def declared_ports(spec: Mapping[str, Any]) -> list[int]:
    """The host's ports of a rendered or raw service."""
    return [_outside(port) for port in declared(spec, sources={}, networks={}).get("ports") or ()]


def taken_port(
    context: Context, service: Service, container: Mapping[str, Any] | None, leaving: Iterable[str]
) -> Refusal | None:
    """The first port of a service that somebody else holds, and who; ``leaving`` are containers that go."""
    own = set(_own(container))
    for port in declared_ports(service.spec):
        found = (context.state.get("ports") or {}).get(str(port)) or {}
        if found.get("taken") and port not in own and found.get("by") not in set(leaving):
            who = found.get("by") or "another program"
            return Refusal(
                message=f"Port {port} of this host is taken by {who}, and {service.name} needs it.",
                hint=f"Stop {who}, or give {service.name} another port in the settings.",
            )
    return None


def open_note(ports: Iterable[str]) -> str | None:
    """A sentence for each port that other machines will reach once its service is made."""
    return "; ".join(_opened({}, _by_port(ports))) or None


def moved_note(changes: Iterable[Change]) -> str | None:
    """A sentence for each port that other machines could reach and no longer can, or the other way round."""
    for change in changes:
        if change.path == "ports":
            before, after = _by_port(change.before or ()), _by_port(change.after or ())
            return "; ".join(_moves(before, after)) or None
    return None


def _moves(before: Mapping[int, str], after: Mapping[int, str]) -> Iterator[str]:
    for port, address in before.items():
        now = after.get(port)
        if now is not None and not _is_local(address) and _is_local(now):
            yield (
                f"port {port} closes to other machines: it listens on {now} instead of {address} "
                "(docker.bind opens it)"
            )
    yield from _opened(before, after)


def _opened(before: Mapping[int, str], after: Mapping[int, str]) -> Iterator[str]:
    for port, address in after.items():
        was = before.get(port)
        if not _is_local(address) and (was is None or _is_local(was)):
            instead = f" instead of {was}" if was else ""
            yield f"port {port} opens to other machines: it listens on {address}{instead}"


def _own(container: Mapping[str, Any] | None) -> Iterator[int]:
    """What the container itself holds while it runs."""
    if container is not None and container["state"] in ("running", "paused", "restarting"):
        yield from map(_outside, observed(container)["ports"])


def _outside(port: str) -> int:
    return int(port.rsplit(":", 2)[1])


def _by_port(ports: Iterable[str]) -> dict[int, str]:
    return {_outside(port): port.rsplit(":", 2)[0] for port in ports}


def _is_local(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
