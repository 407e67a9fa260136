"""What one pass over the hosts knows of each of them.

pyinfra runs ``deploy.py`` once per host and keeps no place for what it found out. This is that place: the
operations write here what they planned, the runner reads it. A pass has a board of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calm.drift.model import HostDrift, Resource
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
    this pass was not asked to converge.
    """

    name: str
    digest_key: str
    settings: Settings | None = None
    state: Mapping[str, Any] | None = None
    drift: HostDrift | None = None
    passed_over: tuple[str, ...] = ()
    error: HostError | None = None
    metas: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def resource(self, identity: str) -> Resource:
        """The resource with that id."""
        assert self.drift is not None
        return next(resource for resource in self.drift.resources if resource.id == identity)

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
    (rollback); ``desired`` is ``present`` or ``absent`` (remove); ``expected`` has the (id, action) pairs
    by host that a person has agreed to.
    """

    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    who: str = ""
    source: str = "inventory"
    desired: str = "present"
    chosen: Callable[[HostDrift], HostDrift] = _all
    settings_for: Callable[[Settings, Mapping[str, Any]], Settings] | None = None
    expected: Mapping[str, frozenset[tuple[str, str]]] | None = None
    lock_held: bool = False
    force: bool = False
    hosts: dict[str, HostRun] = field(default_factory=dict)

    def host(self, name: str) -> HostRun:
        """What is known of host ``name``, begun at the first call."""
        if name not in self.hosts:
            self.hosts[name] = HostRun(name=name, digest_key=secrets.token_hex(32))
        return self.hosts[name]


_current = Board()


def current() -> Board:
    """The board of the pass that is running."""
    return _current


def begin(board: Board) -> Board:
    """Make ``board`` the one that operations write to."""
    global _current
    _current = board
    return board
