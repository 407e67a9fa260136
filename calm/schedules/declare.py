"""The schedules that the settings declare."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from calm.schedules.calendar import calendar
from calm.schedules.model import (
    Always,
    At,
    Clock,
    Daily,
    Every,
    Hourly,
    Monthly,
    Schedule,
    Weekly,
    When,
)

if TYPE_CHECKING:
    from calm.settings.schedules import Job, Schedules, Trigger

SERVICE = "watch"
"""The one schedule that runs all the time."""


def declared(settings: Schedules, *, calm: tuple[str, ...], settings_file: str) -> tuple[Schedule, ...]:
    """What is to run on the host, by name; jobs that are off are not there.

    ``calm`` is how the agent is called there, ``settings_file`` what it is to read.
    """
    last = ("--settings", settings_file)
    jobs = [_job(name, job, calm, last) for name, job in sorted(settings.jobs.items()) if job.enabled]
    service = Schedule(name=SERVICE, when=Always(), command=(*calm, "watch", *last))
    return (*jobs, service) if settings.watch else tuple(jobs)


def _job(name: str, job: Job, calm: tuple[str, ...], last: tuple[str, ...]) -> Schedule:

    return Schedule(
        name=name,
        when=when_of(job.trigger),
        command=(*calm, *job.run.split(), *last),
        timeout=math.ceil(job.timeout),
        jitter=math.ceil(job.jitter),
        catch_up=job.catch_up,
    )


def when_of(trigger: Trigger) -> When:
    """The times of a job as the settings have them."""
    clock = Clock(hour=trigger.hour or 0, minute=trigger.minute or 0)
    match trigger.kind:
        case "daily":
            return Daily(clock=clock)
        case "hourly":
            return Hourly(minute=clock.minute)
        case "weekly":
            return Weekly(days=(trigger.weekday or "",), clock=clock)
        case "monthly":
            return Monthly(day=trigger.day or 1, clock=clock)
        case "every":
            return Every(seconds=math.ceil(trigger.every or 0))
        case "at":
            return At(event="boot" if trigger.event == "boot" else "login")
        case _:
            return calendar(trigger.calendar or "")
