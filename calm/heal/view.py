"""What rules look at: the last snapshots, the trail of earlier ones, what the host's files say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from calm.heal.model import Scope
from calm.health.model import Container, Instance, Snapshot

if TYPE_CHECKING:
    from calm.settings import Settings

YOUNG = 30.0
"""Seconds after its start in which LM Studio is let alone: it loads, and its server is not up yet."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What is remembered of one earlier snapshot.

    ``memory`` maps (root pid, created at) to USS + swap; ``restarts`` a container's id to Docker's count.
    """

    at: float
    memory: Mapping[tuple[int, float], int | None]
    models: tuple[str, ...] | None
    restarts: Mapping[str, int]

    def differs(self, other: Trace) -> bool:
        """Whether anything but sizes has changed."""
        return (
            self.models != other.models
            or self.restarts != other.restarts
            or self.memory.keys() != other.memory.keys()
        )


@dataclass(frozen=True, kw_only=True)
class JobRun:
    """When a schedule's command last ran, and how it ended."""

    at: float
    code: int


@dataclass(frozen=True, kw_only=True)
class Junk:
    """Bytes that ``calm prune`` would free, and bytes that are not calm's and stay."""

    ours: int
    others: int


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything that rules may know.

    ``samples`` are the newest snapshots, oldest first, the last one is now; ``times`` when they were taken.
    ``now``, ``times``, ``trail`` and ``acted`` lie on one line that no clock change bends. ``trail`` are
    earlier snapshots, oldest first. ``wanted`` maps services that apply has made to their containers.
    ``acted`` says until when a budget key was last acted on: what was seen before that counts no more.
    ``ooms`` are out-of-memory kills that the engine has told, by container. ``runs`` are the last runs by
    command, ``applied_at`` is when schedules were last installed. An LM Studio younger than ``young`` seconds
    is let alone.
    """

    settings: Settings
    samples: Sequence[Snapshot]
    now: float
    times: Sequence[float] = ()
    trail: Sequence[Trace] = ()
    wanted: Mapping[str, str] = field(default_factory=dict)
    acted: Mapping[str, float] = field(default_factory=dict)
    ooms: Mapping[str, float] = field(default_factory=dict)
    junk: Junk | None = None
    runs: Mapping[str, JobRun] = field(default_factory=dict)
    applied_at: float | None = None
    young: float = YOUNG


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """What one look at one snapshot makes of a target. ``only_report`` keeps even ``act`` from acting."""

    target: str
    says: str
    action: str | None = None
    only_report: bool = False
    since: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


Look = Callable[[Snapshot, View], Iterable[Suspect]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``sampled`` rules need m of n looks; others look at what is confirmed already."""

    name: str
    scope: Scope
    look: Look
    sampled: bool = True


def trace(snapshot: Snapshot, before: Trace | None = None) -> Trace:
    """What to remember of a snapshot; what is as it was ``before`` is kept once, for there are thousands."""
    loaded = snapshot.lmstudio.api.models_loaded
    models = None if loaded is None else tuple(sorted(model.id for model in loaded))
    containers = snapshot.containers or ()
    restarts = {each.id: each.restarts for each in containers if each.restarts is not None}
    return Trace(
        at=snapshot.taken_at,
        memory={(each.root_pid, each.created_at): held(each) for each in snapshot.lmstudio.instances},
        models=before.models if before is not None and before.models == models else models,
        restarts=before.restarts if before is not None and before.restarts == restarts else restarts,
    )


def held(instance: Instance) -> int | None:
    """USS plus swap: LM Studio's workers leak mostly into swap (issue 502 of lmstudio-ai/lms)."""
    return None if instance.uss_bytes is None else instance.uss_bytes + (instance.swap_bytes or 0)


def is_ours(container: Container, settings: Settings) -> bool:
    """Whether calm made the container; others are only reported on."""
    return container.owned and container.project == settings.docker.project


def megabytes(size: float) -> int:
    """In the units that Docker's own ``M`` means."""
    return round(size / 2**20)
