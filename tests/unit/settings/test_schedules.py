from __future__ import annotations

from typing import Any

import pytest

from calm.settings.schedules import TRIGGERS, Job, Schedules, Trigger


@pytest.mark.parametrize(
    ("when", "trigger"),
    [
        ({"daily": "09:05"}, Trigger(kind="daily", hour=9, minute=5)),
        ({"hourly": True}, Trigger(kind="hourly", minute=0)),
        ({"hourly": 0}, Trigger(kind="hourly", minute=0)),
        ({"hourly": 1}, Trigger(kind="hourly", minute=1)),
        ({"weekly": "Sun 23:00"}, Trigger(kind="weekly", weekday="Sun", hour=23, minute=0)),
        ({"monthly": "28 6:00"}, Trigger(kind="monthly", day=28, hour=6, minute=0)),
        ({"every": "10m"}, Trigger(kind="every", every=600.0)),
        ({"at": "login"}, Trigger(kind="at", event="login")),
        ({"calendar": "Mon..Fri *-*-* 08:30"}, Trigger(kind="calendar", calendar="Mon..Fri *-*-* 08:30")),
    ],
)
def test_when_a_job_runs_is_taken_apart(when: dict[str, Any], trigger: Trigger) -> None:
    assert Job.model_validate({"run": "check", **when}).trigger == trigger


def test_every_way_to_say_when_is_a_field_of_a_job() -> None:
    assert set(TRIGGERS) <= set(Job.model_fields)


@pytest.mark.parametrize("calendar", ["daily\nExecStart=x", "$(id)", "a;b", ""])
def test_a_calendar_expression_holds_nothing_else(calendar: str) -> None:
    with pytest.raises(ValueError, match="is not a calendar expression"):
        Job.model_validate({"run": "check", "calendar": calendar})


@pytest.mark.parametrize("every", [0, 59, "1s"])
def test_a_job_runs_once_a_minute_at_most(every: Any) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 60"):
        Job.model_validate({"run": "check", "every": every})


def test_the_jobs_of_calm_are_there_and_only_safe_ones_are_on() -> None:
    jobs = Schedules().jobs
    assert {name for name, job in jobs.items() if job.enabled} == {
        "lmstudio-monitor",
        "docker-health",
        "prune",
        "performance-test",
    }
    assert jobs["docker-health"].trigger == Trigger(kind="hourly", minute=0)
    assert Schedules.model_validate({"jobs": {}}) == Schedules()
