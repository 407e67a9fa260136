"""Healing: what counts as sick, what is done about it, and how often at most."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema

from calm.settings.base import PathText, Section
from calm.settings.units import Seconds, Size, duration_seconds, size_bytes

Mode = Literal["act", "report", "off"]
Percent = Annotated[float, Field(gt=0, le=100)]


class Rule(Section):
    """What a rule does about what it finds. Written short, ``"report"`` is ``{"do": "report"}``."""

    do: Mode = Field(default="act", description="act, report, or off.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"do": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        whole = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [{"type": "string", "enum": ["act", "report", "off"]}, whole]}


class Runaway(Rule):
    """LM Studio uses much CPU although it serves nobody."""

    cpu_percent: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Percent of one core, as top counts; None: healing.cpu_percent."
    )


class Memory(Rule):
    """LM Studio uses much memory beside its models. Memory alone is no illness, so it is reported."""

    do: Mode = Field(default="report", description="act, report, or off.")
    memory_mb: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="MB beside the loaded models; None: healing.memory_mb."
    )


class Leaking(Rule):
    """LM Studio's memory grows steadily while its set of models stays the same."""

    window: Seconds = Field(
        default=duration_seconds("30m"),
        ge=60,
        description="Seconds over which the growth is measured.",
    )
    mb_per_hour: float = Field(default=200, gt=0, description="Growth that counts as a leak (MB per hour).")


class Idle(Rule):
    """A model is loaded and nobody has used it for long."""

    idle: Seconds = Field(
        default=duration_seconds("1h"),
        ge=60,
        description="Seconds without use after which a model is unloaded.",
    )


class CrashLooping(Rule):
    """A container starts again and again."""

    restarts: int = Field(default=3, ge=1, description="Restarts within the window that make a loop (count).")
    window: Seconds = Field(default=duration_seconds("10m"), ge=10, description="Seconds of the window.")


class Throttled(Rule):
    """A container waits for CPU that its limit keeps from it."""

    do: Mode = Field(default="report", description="act, report, or off.")
    percent: Percent = Field(default=50, description="Throttled periods, percent of all.")


class NearLimit(Rule):
    """A container is about to reach its memory limit."""

    do: Mode = Field(default="report", description="act, report, or off.")
    percent: Percent = Field(default=90, description="Memory in use, percent of the limit.")


class OomKilled(Rule):
    """A container was killed for want of memory: its limit is too low, and a restart does not mend that."""

    do: Mode = Field(default="report", description="act, report, or off.")


class DiskLow(Rule):
    """The disk under root runs full."""

    do: Mode = Field(default="report", description="act, report, or off.")
    free_percent: Percent = Field(default=10, description="Free space below which it is low (percent).")


class Junk(Rule):
    """Stopped containers and old images take up space."""

    do: Mode = Field(default="report", description="act, report, or off.")
    size: Size = Field(default=size_bytes("5G"), description="Junk from which it is worth a word (size).")


class ScheduleLate(Rule):
    """A schedule has not run when it should have."""

    do: Mode = Field(default="report", description="act, report, or off.")
    grace: Seconds = Field(
        default=duration_seconds("2h"),
        description="Seconds after its time from which a run is late.",
    )


class Rules(Section):
    """Every rule by its name, with what it does and its thresholds."""

    lmstudio_duplicated: Rule = Field(
        default_factory=Rule, alias="lmstudio-duplicated", description="LM Studio runs more than once."
    )
    lmstudio_runaway: Runaway = Field(
        default_factory=Runaway, alias="lmstudio-runaway", description="It burns CPU and serves nobody."
    )
    lmstudio_memory: Memory = Field(
        default_factory=Memory, alias="lmstudio-memory", description="It uses much memory beside its models."
    )
    lmstudio_leaking: Leaking = Field(
        default_factory=Leaking, alias="lmstudio-leaking", description="Its memory grows steadily."
    )
    lmstudio_api_down: Rule = Field(
        default_factory=Rule,
        alias="lmstudio-api-down",
        description="It runs, and its server does not answer.",
    )
    model_idle: Idle = Field(
        default_factory=Idle, alias="model-idle", description="A model is loaded and unused."
    )
    model_duplicated: Rule = Field(
        default_factory=Rule, alias="model-duplicated", description="A model is loaded more than once."
    )
    watched_process: Rule = Field(
        default_factory=Rule, alias="watched-process", description="A process of healing.watched is too busy."
    )
    container_unhealthy: Rule = Field(
        default_factory=Rule, alias="container-unhealthy", description="A container fails its health check."
    )
    container_stopped: Rule = Field(
        default_factory=Rule, alias="container-stopped", description="A container that should run does not."
    )
    container_crash_looping: CrashLooping = Field(
        default_factory=CrashLooping,
        alias="container-crash-looping",
        description="A container starts over and over.",
    )
    container_oom_killed: OomKilled = Field(
        default_factory=OomKilled,
        alias="container-oom-killed",
        description="A container was killed for memory.",
    )
    container_throttled: Throttled = Field(
        default_factory=Throttled, alias="container-throttled", description="A container is short of CPU."
    )
    container_near_limit: NearLimit = Field(
        default_factory=NearLimit, alias="container-near-limit", description="A container is short of memory."
    )
    disk_low: DiskLow = Field(default_factory=DiskLow, alias="disk-low", description="The disk runs full.")
    junk: Junk = Field(
        default_factory=Junk, alias="junk", description="Unused containers and images pile up."
    )
    schedule_late: ScheduleLate = Field(
        default_factory=ScheduleLate, alias="schedule-late", description="A schedule did not run."
    )

    def __getitem__(self, name: str) -> Rule:
        """The rule of this name; ``KeyError`` if there is none."""
        if name not in RULES:
            raise KeyError(name)
        rule: Rule = getattr(self, name.replace("-", "_"))
        return rule


RULES: tuple[str, ...] = tuple(str(field.alias) for field in Rules.model_fields.values())
"""The names of all rules, as settings, findings and the journal write them."""


class Budget(Section):
    """How often calm may act on one target before it stops and asks for a person."""

    acts: int = Field(default=3, ge=1, description="Most acts within the window (count).")
    window: Seconds = Field(default=600, ge=1, description="Seconds of the window.")
    per_day: int = Field(default=10, ge=1, description="Most acts within 24 hours (count).")


class Watched(Section):
    """A process of another program that is looked at, and touched only when told to."""

    name: str = Field(min_length=1, max_length=128, description="Name of the executable, without .exe.")
    do: Mode = Field(default="report", description="act, report, or off; act needs path.")
    path: PathText | None = Field(default=None, description="Full path of the executable that may be ended.")

    @model_validator(mode="after")
    def _act_by_path_alone(self) -> Watched:
        if self.do == "act" and self.path is None:
            raise ValueError(
                f"to act on {self.name}, name the full path of its executable: a name is no proof"
            )
        return self


class Prune(Section):
    """What cleaning takes along. Never a volume."""

    older_than: Seconds = Field(
        default=duration_seconds("168h"),
        description="Least age in seconds of what is removed.",
    )
    build_cache: bool = Field(
        default=False, description="Also the build cache, which carries no owner's label."
    )


class Healing(Section):
    """What calm does by itself."""

    enabled: bool = Field(default=True, description="Whether heal and watch act at all.")
    cpu_percent: float = Field(
        default=80, gt=0, description="CPU of an idle LM Studio from which it is sick (percent of one core)."
    )
    memory_mb: float = Field(
        default=2048, gt=0, description="Memory beside its models from which it is told (MB)."
    )
    interval: Seconds = Field(default=30, ge=1, description="Seconds between two looks at LM Studio.")
    docker_interval: Seconds = Field(
        default=60, ge=1, description="Seconds between two sweeps over the containers."
    )
    confirm: Annotated[tuple[int, int], Field(strict=False)] = Field(
        default=(3, 5), description="A finding counts once it was seen in m of n samples: [m, n]."
    )
    budget: Budget = Field(default_factory=Budget, description="Most acts per target.")
    rules: Rules = Field(
        default_factory=Rules, description="Rules by name: act, report or off, or thresholds."
    )
    watched: Annotated[tuple[Watched, ...], Field(strict=False)] = Field(
        default=(Watched(name="LM_Support"),),
        description="Other programs' processes to look at. LM_Support is a part of ASUS Aura, not of LM "
        "Studio.",
    )
    prune: Prune = Field(default_factory=Prune, description="What cleaning takes along.")

    @field_validator("confirm")
    @classmethod
    def _m_of_n(cls, value: tuple[int, int]) -> tuple[int, int]:
        m, n = value
        if not 1 <= m <= n <= 100:
            raise ValueError(f"must be [m, n] with 1 <= m <= n <= 100, not [{m}, {n}]")
        return value
