"""Tasks of Windows' Task Scheduler: golden, and read back to the same schedule."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings

from calm.schedules import taskscheduler
from calm.schedules.calendar import calendar
from calm.schedules.model import At, Every, Schedule, UnreadableError, UnsupportedError
from calm.schedules.place import Place
from tests.unit.schedules.declarations import TABLE, schedules
from tests.unit.schedules.golden import same

PLACE = Place(root="C:\\Users\\ann\\calm", home="C:\\Users\\ann", user="DESK\\ann")


@settings(deadline=None)
@given(schedules)
def test_what_is_rendered_reads_back_as_what_the_scheduler_does(schedule: Schedule) -> None:
    try:
        real, _ = taskscheduler.effective(schedule, PLACE)
    except UnsupportedError:
        assume(False)
        raise
    assert taskscheduler.parse(taskscheduler.render(schedule, PLACE)) == real


@pytest.mark.parametrize("name", TABLE)
def test_golden(name: str) -> None:
    data = taskscheduler.encoded(taskscheduler.render(TABLE[name], PLACE))
    assert same(f"taskscheduler/{name}.xml", data)
    assert data.startswith(b"\xff\xfe<\x00?\x00")


def test_the_service_has_no_time_limit_is_hidden_and_never_runs_twice() -> None:
    text = taskscheduler.render(TABLE["watch"], PLACE)
    for line in (
        "<ExecutionTimeLimit>PT0S<",
        "<Hidden>true<",
        "<MultipleInstancesPolicy>IgnoreNew<",
        "<LogonTrigger>",
    ):
        assert line in text


def test_what_schtasks_prints_is_read_leniently() -> None:
    text = taskscheduler.render(TABLE["daily"], PLACE)
    printed = "\ufeff\r\r\n" + text.replace("\n", "\r\r\n").replace(
        "<Hidden>", "<AllowHardTerminate>true</AllowHardTerminate><Hidden>"
    )
    assert taskscheduler.parse(printed) == taskscheduler.effective(TABLE["daily"], PLACE)[0]
    assert taskscheduler.owner(printed) == PLACE.root
    assert taskscheduler.is_enabled(printed)
    assert not taskscheduler.is_enabled(printed.replace("<Enabled>true", "<Enabled>false", 1))


@pytest.mark.parametrize("when", [At(event="boot"), Every(seconds=90), calendar("*/7 8-18 * * *")])
def test_what_the_scheduler_cannot_do_is_refused_in_plain_words(when: At) -> None:
    with pytest.raises(UnsupportedError):
        taskscheduler.render(Schedule(name="odd", when=when, command=("calm",)), PLACE)


@pytest.mark.parametrize("text", ["", "ERROR: The system cannot find the file", "<Task", "<Task></Task>"])
def test_what_is_not_ours_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableError):
        taskscheduler.parse(text)
    assert taskscheduler.owner(text) is None
