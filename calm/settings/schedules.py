"""Schedules: which of the agent's commands the host's scheduler runs, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from calm.settings.base import JobName, Section
from calm.settings.units import Seconds, duration_seconds

TRIGGERS = ("daily", "hourly", "weekly", "monthly", "every", "at", "calendar")
"""The keys of a job that say when; a job has exactly one."""

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

COMMANDS = ("heal", "prune", "check", "snapshot", "journal", "bench", "pull")
"""The agent's commands that a job can run."""

PLANNED = ("report",)
"""Commands that a job may name while it is off, since this version has none of them."""

_TIME = r"([01]?\d|2[0-3]):([0-5]\d)"
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:=,/+@-]*")
_PASSWORD = re.compile(r"://[^/\s]*:[^/\s]*@")
_CALENDAR = re.compile(r"[A-Za-z0-9 *:.,/~-]+")


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """When a job runs, taken apart for a scheduler; times are the host's local time.

    ``kind`` is one of ``TRIGGERS``; ``weekday`` one of ``WEEKDAYS``; ``day`` the day of the month from 1;
    ``every`` seconds; ``event`` login or boot; ``calendar`` a systemd calendar expression.
    """

    kind: str
    hour: int | None = None
    minute: int | None = None
    weekday: str | None = None
    day: int | None = None
    every: float | None = None
    event: str | None = None
    calendar: str | None = None


class Job(Section):
    """One command of the agent and when it runs. Exactly one key says when."""

    daily: str | None = Field(default=None, description='Every day at this time: "09:00".')
    hourly: bool | int | None = Field(
        default=None, description="Every hour: True, or the minute from 0 to 59."
    )
    weekly: str | None = Field(default=None, description='Every week: "Sun 23:00".')
    monthly: str | None = Field(default=None, description='Every month, by day and time: "1 06:00".')
    every: Seconds | None = Field(default=None, ge=60, description="Every so many seconds, at least 60.")
    at: Literal["login", "boot"] | None = Field(
        default=None, description="When the user logs in, or at boot."
    )
    calendar: str | None = Field(
        default=None, description='A systemd calendar expression, "Mon..Fri *-*-* 08:30"; for systemd alone.'
    )
    run: str = Field(description='The command, as after "calm": "heal --only docker".')
    enabled: bool = Field(default=True, description="Whether the host's scheduler has the job.")
    timeout: Seconds = Field(
        default=duration_seconds("15m"),
        gt=0,
        description="Seconds after which a run is ended.",
    )
    jitter: Seconds = Field(
        default=0, description="Most seconds that a run is put off, the same on a host each time."
    )
    catch_up: bool = Field(
        default=True, description="Run once when the host was off at the time, where it can."
    )

    @field_validator("daily")
    @classmethod
    def _daily(cls, value: str | None) -> str | None:
        return _fits(value, _TIME, 'is not a time of day; write it such as "09:00"')

    @field_validator("weekly")
    @classmethod
    def _weekly(cls, value: str | None) -> str | None:
        return _fits(
            value,
            rf"({'|'.join(WEEKDAYS)}) {_TIME}",
            'is not a time of the week; write it such as "Sun 23:00"',
        )

    @field_validator("monthly")
    @classmethod
    def _monthly(cls, value: str | None) -> str | None:
        # A day that some months lack would skip those months without a word.
        return _fits(
            value,
            rf"([1-9]|1\d|2[0-8]) {_TIME}",
            'is not a day from 1 to 28 and a time; write it such as "1 06:00"',
        )

    @field_validator("calendar")
    @classmethod
    def _calendar(cls, value: str | None) -> str | None:
        return _fits(
            value, _CALENDAR.pattern, 'is not a calendar expression; write it such as "Mon *-*-* 08:30"'
        )

    @field_validator("hourly", mode="before")
    @classmethod
    def _hourly(cls, value: Any) -> Any:
        if value is None or value is True or (type(value) is int and 0 <= value <= 59):
            return value
        raise ValueError(f"must be True or the minute from 0 to 59, not {value!r}")

    @field_validator("run")
    @classmethod
    def _run(cls, value: str) -> str:
        name = value.split(" ")[0]
        if name not in (*COMMANDS, *PLANNED):
            raise ValueError(f"the agent has no command {name!r}; it has {', '.join(COMMANDS)}")
        if not _RUN.fullmatch(value):
            raise ValueError(f"{value!r} has characters that a scheduler could read as its own")
        if _PASSWORD.search(value):
            raise ValueError(
                "the address has a password in it, which schedulers show to every user; keep it in git's "
                "credential store on the host"
            )
        return value

    @model_validator(mode="after")
    def _one_trigger(self) -> Job:
        named = [key for key in TRIGGERS if getattr(self, key) is not None]
        if len(named) != 1:
            raise ValueError(
                f"needs exactly one of {', '.join(TRIGGERS)}, and has {' and '.join(named) or 'none'}"
            )
        command = self.run.split(" ")[0]
        if self.enabled and command in PLANNED:
            raise ValueError(
                f'this version of calm has no command "{command}"; leave the job off (enabled False)'
            )
        return self

    @property
    def trigger(self) -> Trigger:
        """When the job runs, taken apart."""
        kind = next(key for key in TRIGGERS if getattr(self, key) is not None)
        return _trigger(kind, getattr(self, kind))


def _trigger(kind: str, value: Any) -> Trigger:
    match kind:
        case "hourly":
            return Trigger(kind=kind, minute=0 if value is True else value)
        case "every":
            return Trigger(kind=kind, every=value)
        case "at":
            return Trigger(kind=kind, event=value)
        case "calendar":
            return Trigger(kind=kind, calendar=value)
    *day, clock = value.split(" ")
    hour, minute = (int(part) for part in clock.split(":"))
    if kind == "weekly":
        return Trigger(kind=kind, hour=hour, minute=minute, weekday=day[0])
    return Trigger(kind=kind, hour=hour, minute=minute, day=int(day[0]) if day else None)


def _fits(value: str | None, pattern: str, otherwise: str) -> str | None:
    if value is not None and not re.fullmatch(pattern, value):
        raise ValueError(f"{value!r} {otherwise}")
    return value


DEFAULT_JOBS: Mapping[str, Mapping[str, Any]] = {
    "lmstudio-monitor": {"daily": "09:00", "run": "heal --only lmstudio"},
    "docker-health": {"hourly": True, "run": "heal --only docker"},
    "prune": {"weekly": "Sun 23:00", "run": "prune"},
    "performance-test": {"weekly": "Sun 04:00", "run": "bench full", "timeout": "30m"},
    "report": {"monthly": "1 06:00", "run": "report", "enabled": False},
}


def merged_job(lower: Any, upper: Any) -> Any:
    """``upper`` over ``lower``; one that says when takes the place of the other's."""
    if not (isinstance(lower, Mapping) and isinstance(upper, Mapping)):
        return upper
    says_when = any(upper.get(key) is not None for key in TRIGGERS)
    kept = {key: value for key, value in lower.items() if not (says_when and key in TRIGGERS)}
    return {**kept, **upper}


class Schedules(Section):
    """What the host's scheduler runs."""

    backend: Literal["auto", "systemd", "systemd-user", "cron", "launchd", "taskscheduler", "none"] = Field(
        default="auto", description="The scheduler; auto: the best that the host has. none: no schedules."
    )
    watch: bool = Field(default=True, description="Whether calm watch runs all the time, supervised.")
    jobs: dict[JobName, Job] = Field(
        default_factory=lambda: {name: Job.model_validate(job) for name, job in DEFAULT_JOBS.items()},
        description="Jobs by name. Those of calm's own are there already; give only what differs.",
    )

    @field_validator("jobs", mode="before")
    @classmethod
    def _over_the_defaults(cls, jobs: Any) -> Any:
        if not isinstance(jobs, Mapping):
            return jobs
        return {
            **DEFAULT_JOBS,
            **{name: merged_job(DEFAULT_JOBS.get(name), job) for name, job in jobs.items()},
        }
