"""What a snapshot is made of: values only, nothing here measures.

A thing that could not be measured is ``None``, never 0. Sizes are bytes, points in time are seconds since
the epoch, spans are seconds unless the name says ``ms``. CPU is in percent of *one* core, as ``top`` has it
(a process on four cores shows 400); only the machine's own figure is in percent of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA = 1


class ProcessKey(NamedTuple):
    """What tells a process from a later one with the same number."""

    pid: int
    created_at: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The host as a whole. The disk is the one that holds calm's root."""

    cpu_count: int | None = None
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_used_bytes: int | None = None
    disk_free_bytes: int | None = None
    disk_percent: float | None = None
    processes: int | None = None
    booted_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One running LM Studio: a root process and its helpers and workers.

    ``form`` is ``app`` or ``llmster``. ``listens`` are the TCP ports that the tree listens on;
    ``serves_api`` says that the API's port is among them, ``named`` that ``http-server.json`` names one of
    its processes. ``connections`` counts established connections of others to its ports. ``busy`` is true if
    somebody is being served (see ``calm.health.lmstudio``). ``members`` holds every process of the tree, the
    root first; foreign programs that LM Studio has started (a browser, say) are none of them. ``home`` is
    LM Studio's home that it lives in, by its paths, else by its user's home.
    """

    root_pid: int
    created_at: float
    executable: str
    processes: int
    cpu_percent: float | None
    uss_bytes: int | None
    swap_bytes: int | None
    busy: bool | None
    home: str | None = None
    form: str = "app"
    arguments: tuple[str, ...] = ()
    workers_cpu_percent: float | None = None
    listens: tuple[int, ...] = ()
    serves_api: bool | None = None
    named: bool | None = None
    connections: int | None = None
    members: tuple[ProcessKey, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A helper or worker of LM Studio whose instance is gone."""

    pid: int
    created_at: float
    executable: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in memory. ``id`` names the loaded instance (``key`` or ``key:2``), ``key`` the model.

    ``idle_seconds`` is how long calm has seen it idle, without a gap: a lower bound. ``ttl_seconds`` is
    known only where LM Studio tells it.
    """

    id: str
    key: str
    size_bytes: int | None = None
    ttl_seconds: float | None = None
    idle_seconds: float | None = None
    state: str | None = None
    context_length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Api:
    """LM Studio's HTTP server. ``models_loaded`` is ``None`` where it could not be asked for."""

    reachable: bool | None = None
    port: int | None = None
    models_loaded: tuple[LoadedModel, ...] | None = None
    url: str | None = None
    latency_ms: float | None = None
    error: str | None = None
    needs_token: bool | None = None
    jit_ttl_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class LMStudio:
    """LM Studio on this host. ``installed`` is ``None`` if the processes could not be read.

    ``instances`` are those of this home or of an unknown one; ``others`` live in the home of somebody else,
    and are nothing to act on.
    """

    installed: bool | None = None
    instances: tuple[Instance, ...] = ()
    api: Api = field(default_factory=Api)
    home: str | None = None
    version: str | None = None
    leftovers: tuple[Leftover, ...] = ()
    others: tuple[Instance, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A process that the settings name. ``known_as`` says what a well-known name really is."""

    name: str
    pid: int
    created_at: float
    executable: str | None
    cpu_percent: float | None
    uss_bytes: int | None = None
    swap_bytes: int | None = None
    known_as: str | None = None


@dataclass(frozen=True, kw_only=True)
class Docker:
    """The engine. ``status`` is answers, down, denied or absent."""

    reachable: bool | None = None
    version: str | None = None
    status: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Container:
    """One container of the engine, ours or not.

    ``owned`` says that it carries calm's label, ``stuck`` that the engine did not answer for it in time.
    ``memory_bytes`` leaves out page cache that the kernel can drop. ``health`` is healthy, unhealthy,
    starting or ``None`` (no check); ``health_since`` the first of the last checks that all went the same way.
    ``throttled_percent`` is the part of the scheduler's periods since the last sample in which it was held
    back; ``periods`` and ``throttled_periods`` are the counters.
    """

    name: str
    service: str | None
    id: str
    state: str
    health: str | None
    restarts: int | None
    oom_killed: bool | None
    cpu_percent: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    cpus_limit: float | None
    project: str | None = None
    owned: bool = False
    image: str | None = None
    stuck: bool = False
    created_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    restart_policy: str | None = None
    health_since: float | None = None
    failing_streak: int | None = None
    start_period_seconds: float | None = None
    pids: int | None = None
    oom_kills: int | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Whether something answers, and as it should. ``error`` is a plain sentence."""

    name: str
    url: str
    ok: bool | None
    latency_ms: float | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Counters that the next snapshot subtracts from its own: in memory only, never in JSON.

    ``at`` is monotonic time, ``read_at`` when the process table was read (epoch). Processes map to CPU
    seconds, the machine to (busy, all) CPU seconds; containers are as ``calm.health.containers`` keeps them,
    the rest as ``calm.health.lmstudio`` remembers it.
    """

    at: float
    read_at: float
    processes: Mapping[ProcessKey, float] = field(default_factory=dict)
    machine: tuple[float, float] | None = None
    containers: Any = None
    remembered: Any = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A host at one moment. Hand it to the next ``take`` as ``previous`` and that one need not wait.

    ``window`` is the span that CPU figures are measured over, ``cost_ms`` what the snapshot took besides it,
    ``cpu_ms`` the processor time that it cost, ``problems`` say what could not be measured and why.
    """

    host: str
    taken_at: float
    machine: Machine | None = None
    lmstudio: LMStudio = field(default_factory=LMStudio)
    watched: tuple[Watched, ...] | None = ()
    docker: Docker = field(default_factory=Docker)
    containers: tuple[Container, ...] | None = None
    endpoints: tuple[Endpoint, ...] = ()
    cost_ms: float | None = None
    cpu_ms: float | None = None
    window: float | None = None
    problems: tuple[str, ...] = ()
    schema: int = SCHEMA
    sample: Sample | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The snapshot as ``calm snapshot --json`` prints it and the journal keeps it."""
        names = [each.name for each in fields(self) if each.name not in ("schema", "sample")]
        return {"schema": self.schema} | {name: _plain(getattr(self, name)) for name in names}

    def to_text(self) -> str:
        """The same in one line."""
        return json.dumps(self.to_json(), separators=(",", ":"))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Snapshot:
        """The snapshot that ``to_json`` gave; keys of a newer schema are passed over.

        Raises ``ValueError`` if it is none.
        """
        return _adapter().validate_python({key: value for key, value in data.items() if key != "sample"})


def _plain(value: Any) -> Any:
    if isinstance(value, ProcessKey):
        return value._asdict()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    names = _field_names(type(value))
    return value if names is None else {name: _plain(getattr(value, name)) for name in names}


def _field_names(kind: type[Any]) -> tuple[str, ...] | None:
    """The fields of a dataclass, ``None`` for any other class; each class is asked once."""
    if kind not in _KNOWN:
        _KNOWN[kind] = tuple(each.name for each in fields(kind)) if is_dataclass(kind) else None
    return _KNOWN[kind]


_KNOWN: dict[type[Any], tuple[str, ...] | None] = {}


@cache
def _adapter() -> TypeAdapter[Snapshot]:
    from pydantic import TypeAdapter

    return TypeAdapter(Snapshot)
