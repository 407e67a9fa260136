"""What one pass over the hosts knows of each of them.

pyinfra runs ``deploy.py`` once per host and keeps no place for what it found out. This is that place: the
operations write here what they planned, the runner reads it. A pass has a board of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calm.drift.model import HostDrift, Resource
    from calm.fleet.agreed import Agreed
    from calm.settings import Settings


@dataclass(frozen=True, kw_only=True)
class HostError:
    """Why a host as a whole failed. ``code`` is a short word for programs."""

    code: str
    message: str
    hint: str

    def to_json(self) -> dict[str, str]:
        """The error as ``plan --json`` prints it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


@dataclass(kw_only=True)
class HostRun:
    """One host in one pass.

    ``metas`` are pyinfra's operation results by resource id; ``passed_over`` are pending resources that
    this pass was not asked to converge. ``becomes`` says as whom commands run there, if not as whoever
    logs in; ``health`` is what the host's agent answered, if it was asked.
    """

    name: str
    digest_key: str
    settings: Settings | None = None
    state: Mapping[str, Any] | None = None
    drift: HostDrift | None = None
    passed_over: tuple[str, ...] = ()
    error: HostError | None = None
    becomes: str | None = None
    health: Mapping[str, Any] = field(default_factory=dict)
    metas: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def resource(self, identity: str) -> Resource:
        """The resource with that id."""
        assert self.drift is not None
        return next(resource for resource in self.drift.resources if resource.id == identity)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a plan says of this host beside its changes."""
        own = (f"commands run there as {self.becomes}",) if self.becomes else ()
        return own + (self.drift.notes if self.drift else ())

    @property
    def sick_services(self) -> tuple[str, ...]:
        """Services of the stack that are not as a health gate wants them."""
        if self.state is None or self.settings is None:
            return ()
        return tuple(
            container["service"] or container["name"]
            for container in self.state.get("containers") or ()
            if container["project"] == self.settings.docker.project
            and (container["health"] == "unhealthy" or container["state"] in ("restarting", "dead"))
        )

    def failed(self) -> tuple[str, ...]:
        """Ids of the resources that failed or were skipped so far, in order."""
        return tuple(
            identity for identity, meta in self.metas.items() if meta.is_complete() and meta.did_error()
        )


def _all(drift: HostDrift) -> HostDrift:
    return drift


@dataclass(kw_only=True)
class Board:
    """One pass: who runs it, with which choices, and what is known of each host.

    ``chosen`` narrows the resources of a host (``--only``); ``settings_for`` replaces a host's settings
    (rollback); ``desired`` is ``present`` or ``absent`` (remove); ``agreed`` is what a person has said yes
    to; ``reads`` are further files for the probe; ``snapshots`` asks each host's agent for one, too.
    """

    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    who: str = ""
    source: str = "inventory"
    desired: str = "present"
    chosen: Callable[[HostDrift], HostDrift] = _all
    settings_for: Callable[[Settings, Mapping[str, Any]], Settings] | None = None
    agreed: Agreed | None = None
    reads: Mapping[str, Any] = field(default_factory=dict)
    snapshots: bool = False
    lock_held: bool = False
    force: bool = False
    hosts: dict[str, HostRun] = field(default_factory=dict)

    def host(self, name: str) -> HostRun:
        """What is known of host ``name``, begun at the first call."""
        if name not in self.hosts:
            self.hosts[name] = HostRun(name=name, digest_key=secrets.token_hex(32))
        return self.hosts[name]


@dataclass(kw_only=True)
class Pass:
    """What one pass came to. ``unreachable`` has the reason by host name, in the inventory's order."""

    board: Board
    hosts: tuple[str, ...]
    unreachable: dict[str, HostError] = field(default_factory=dict)

    def joined(self, later: Pass) -> Pass:
        """This pass with what ``later`` has come to in the place of what was known of its hosts."""
        hosts = {**self.board.hosts, **later.board.hosts}
        stale = {name: why for name, why in self.unreachable.items() if name not in later.board.hosts}
        board = replace(later.board, hosts=hosts)
        return Pass(board=board, hosts=self.hosts, unreachable=stale | later.unreachable)


_current = Board()


def current() -> Board:
    """The board of the pass that is running."""
    return _current


def begin(board: Board) -> Board:
    """Make ``board`` the one that operations write to."""
    global _current
    _current = board
    return board
