"""Times of day, as cron and as systemd write them."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import assume, given, settings

from calm.schedules.calendar import calendar, from_cron, from_systemd, is_cron, to_cron, to_systemd
from calm.schedules.model import Calendar, Clock, Daily, Hourly, Monthly, UnsupportedError, Weekly
from tests.unit.schedules.declarations import cron_fields


@settings(deadline=None)
@given(cron_fields)
def test_cron_fields_survive_both_schedulers(fields: str) -> None:
    when = calendar(fields)
    assert from_cron(to_cron(when)) == when
    try:
        expression = to_systemd(when)
    except UnsupportedError:
        assume(False)
    else:
        assert from_systemd(expression) == when


@pytest.mark.parametrize(
    ("expression", "when"),
    [
        ("0 9 * * *", Daily(clock=Clock(hour=9, minute=0))),
        ("5 * * * *", Hourly(minute=5)),
        ("0 23 * * 7", Weekly(days=("Sun",), clock=Clock(hour=23, minute=0))),
        ("0 8 * * 1-5", Weekly(days=("Mon", "Tue", "Wed", "Thu", "Fri"), clock=Clock(hour=8, minute=0))),
        ("30 6 15 * *", Monthly(day=15, clock=Clock(hour=6, minute=30))),
        ("*-*-* 09:00:00", Daily(clock=Clock(hour=9, minute=0))),
        ("*/15 8-18 * * 1-5", Calendar(expression="*/15 8-18 * * 1,2,3,4,5")),
    ],
)
def test_one_form_for_what_means_the_same(expression: str, when: Daily) -> None:
    assert calendar(expression) == when


@pytest.mark.parametrize(
    "fields",
    [
        "60 * * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5/2 * * * *",
        "a * * * *",
        "* * * *",
        "9-5 * * * *",
        "*/0 * * * *",
    ],
)
def test_what_is_no_cron_expression(fields: str) -> None:
    assert not is_cron(fields)


def test_day_of_month_or_weekday_is_refused_for_systemd() -> None:
    with pytest.raises(UnsupportedError, match="OR"):
        to_systemd(calendar("0 9 1 * 1"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_understands_every_translation() -> None:
    fields = [
        "0 9 * * *",
        "*/15 * * * *",
        "0-30/5 8-18 * * 1-5",
        "0 6 1,15 */2 *",
        "5 4 31 * *",
        "1,2,3 */7 * 6-9 0",
    ]
    expressions = [to_systemd(calendar(each)) for each in fields]
    done = subprocess.run(
        ["systemd-analyze", "calendar", *expressions], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Normalized form") + done.stdout.count("Original form") >= len(expressions)
