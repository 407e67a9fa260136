"""Crontab lines: golden, and read back to the same schedule."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings

from calm.schedules import cron
from calm.schedules.calendar import calendar
from calm.schedules.model import Always, At, Every, Schedule, UnreadableError, UnsupportedError
from calm.schedules.place import Place
from tests.unit.schedules.declarations import TABLE, schedules
from tests.unit.schedules.golden import same

PLACE = Place(root="/home/ann/calm", home="/home/ann")


def _can(schedule: Schedule) -> Schedule:
    try:
        return cron.effective(schedule, PLACE)[0]
    except UnsupportedError:
        assume(False)
        raise


@settings(deadline=None)
@given(schedules)
def test_what_is_rendered_reads_back_as_what_cron_does(schedule: Schedule) -> None:
    real = _can(schedule)
    assert cron.parse(cron.render(schedule, PLACE)) == real


@settings(deadline=None)
@given(schedules)
def test_a_schedule_without_notes_means_the_same_under_cron(schedule: Schedule) -> None:
    real = _can(schedule)
    _, notes = cron.effective(schedule, PLACE)
    assert bool(notes) == (schedule.catch_up and not isinstance(schedule.when, Every | At | Always))
    assert (real.name, real.command) == (schedule.name, schedule.command)


@settings(deadline=None)
@given(schedules)
def test_no_line_holds_a_percent_sign_that_cron_would_cut_at(schedule: Schedule) -> None:
    _can(schedule)
    for line in cron.render(schedule, PLACE):
        assert "%" not in line.replace("\\%", "")
        assert "\n" not in line


@pytest.mark.parametrize("name", [name for name in TABLE if name != "login"])
def test_golden(name: str) -> None:
    lines = cron.render(TABLE[name], PLACE)
    assert same(f"cron/{name}.crontab", ("\n".join(lines) + "\n").encode())


@pytest.mark.parametrize(
    ("when", "says"),
    [
        (Every(seconds=7 * 60), "evenly"),
        (Every(seconds=90), "evenly"),
        (At(event="login"), "no login"),
        (calendar("Mon *-*-1..7 09:00:00"), "five fields"),
    ],
)
def test_what_cron_cannot_do_is_refused_in_plain_words(when: Every, says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        cron.render(Schedule(name="odd", when=when, command=("/opt/calm",)), PLACE)


def test_a_backslash_is_refused_since_crons_read_it_differently() -> None:
    with pytest.raises(UnsupportedError, match="backslash"):
        cron.render(Schedule(name="odd", when=Every(seconds=60), command=("/opt/calm", "a\\b")), PLACE)


@pytest.mark.parametrize(
    "edit",
    ["30 4 * * * CALM_SCHEDULE=prune", "0 23 * * 0 /opt/calm prune", "# 0 23 * * 0 CALM_SCHEDULE=prune x"],
)
def test_an_edited_line_is_unreadable(edit: str) -> None:
    with pytest.raises(UnreadableError):
        cron.parse((edit,))


def test_two_lines_of_one_job_are_unreadable() -> None:
    (line,) = cron.render(TABLE["hourly"], PLACE)
    with pytest.raises(UnreadableError, match="2 lines"):
        cron.parse((line, line))
