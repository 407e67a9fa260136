"""What drift is made of: resources, their changes, and the effects that would mend them.

Everything here is a value. Nothing reads a clock, a file or a host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calm.settings import Settings

Json = Any
"""A value that JSON can hold."""

Effect = Mapping[str, Json]
"""One small thing for ``calm.onhost.effect`` to do; its key ``do`` names it."""


class Action(StrEnum):
    """What happens to a resource when it is applied."""

    CREATE = "create"
    UPDATE = "update"
    RECREATE = "recreate"
    REMOVE = "remove"
    NONE = "none"


class Origin(StrEnum):
    """Who caused a difference: nobody yet, the settings, the host, or both since the last apply."""

    NEW = "new"
    SETTINGS = "settings"
    HOST = "host"
    BOTH = "both"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One field that differs. ``before`` is what the host has, ``after`` what the settings want."""

    path: str
    before: Json
    after: Json
    sensitive: bool = False
    origin: Origin | None = None

    def to_json(self) -> dict[str, Json]:
        """The change as ``plan --json`` prints it: a sensitive one without its values."""
        shown = (
            {"before": None, "after": None}
            if self.sensitive
            else {"before": self.before, "after": self.after}
        )
        return {"path": self.path, **shown, "sensitive": self.sensitive}


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a resource cannot be converged, and what a person can do about it."""

    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One thing that calm owns or enforces on a host, as it is and as it should be.

    ``effects`` are in order; ``needs`` are ids of resources that have to succeed first; ``note`` is a
    sentence for the plan (a port that closes, a change that waits for the next start).
    """

    id: str
    kind: str
    action: Action = Action.NONE
    origin: Origin | None = None
    changes: tuple[Change, ...] = ()
    diff: str | None = None
    effects: tuple[Effect, ...] = ()
    needs: tuple[str, ...] = ()
    note: str | None = None
    refused: Refusal | None = None

    @property
    def pending(self) -> bool:
        """Whether apply has something to do here, or has to refuse."""
        return self.action is not Action.NONE or self.refused is not None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A resource that this host does not get, and why."""

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Context:
    """All that a piece of drift may look at.

    ``state`` is the probe's answer, ``record`` what apply last did (empty: never), ``secrets`` the values
    that the inventory gives, ``digest_key`` the key of this run's digests (hex).
    """

    settings: Settings
    state: Mapping[str, Json]
    record: Mapping[str, Json]
    secrets: Mapping[str, str]
    digest_key: str


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one module of drift has to say: its part of the plan and of the next record."""

    resources: tuple[Resource, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    record: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HostDrift:
    """The whole difference between one host and its settings.

    ``resources`` come in the order of application, those without an action included. ``record`` is what
    ``<root>/record.json`` has to hold once everything is applied.
    """

    resources: tuple[Resource, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    record: Mapping[str, Json]

    @property
    def pending(self) -> tuple[Resource, ...]:
        """The resources that apply would touch or refuse."""
        return tuple(resource for resource in self.resources if resource.pending)


def origin_of(*, recorded: Json, before: Json, after: Json) -> Origin:
    """Who moved: the settings, the host, or both, since ``recorded`` was applied.

    ``None`` for ``recorded`` means that calm has not applied this before. The caller has found that
    ``before`` (the host) and ``after`` (the settings) differ.
    """
    if recorded is None:
        return Origin.NEW
    if recorded == after:
        return Origin.HOST
    return Origin.SETTINGS if recorded == before else Origin.BOTH


def joint_origin(origins: tuple[Origin, ...]) -> Origin | None:
    """The origin of a resource from those of its changes."""
    found = set(origins)
    if not found:
        return None
    if len(found) == 1:
        return found.pop()
    return Origin.BOTH if found - {Origin.NEW} != {Origin.HOST} else Origin.HOST
