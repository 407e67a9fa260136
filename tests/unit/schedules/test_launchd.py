"""Property lists: golden, and read back to the same schedule."""

from __future__ import annotations

import plistlib

import pytest
from hypothesis import assume, given, settings

from calm.schedules import launchd
from calm.schedules.calendar import calendar
from calm.schedules.model import At, Schedule, UnreadableError, UnsupportedError
from calm.schedules.place import Place
from tests.unit.schedules.declarations import TABLE, schedules
from tests.unit.schedules.golden import same

PLACE = Place(root="/Users/ann/calm", home="/Users/ann")


@settings(deadline=None)
@given(schedules)
def test_what_is_rendered_reads_back_as_what_launchd_does(schedule: Schedule) -> None:
    try:
        real, notes = launchd.effective(schedule, PLACE)
    except UnsupportedError:
        assume(False)
        raise
    assert launchd.parse(launchd.render(schedule, PLACE)) == real
    assert notes or real == launchd.sensible(schedule)


@pytest.mark.parametrize("name", TABLE)
def test_golden(name: str) -> None:
    text = launchd.render(TABLE[name], PLACE)
    assert same(f"launchd/{name}.plist", text.encode())
    assert plistlib.loads(text.encode())["Label"] == TABLE[name].unit
    assert launchd.owner(text) == PLACE.root


@pytest.mark.parametrize("when", [At(event="boot"), calendar("0 9 * * 1-5/2"), calendar("0 9 1 1 *")])
def test_what_launchd_cannot_do_is_refused_in_plain_words(when: At) -> None:
    schedule = Schedule(name="odd", when=when, command=("/opt/calm",))
    if isinstance(when, At) or "1 1" in str(when):
        with pytest.raises(UnsupportedError, match="launchd"):
            launchd.render(schedule, PLACE)
    else:
        assert launchd.parse(launchd.render(schedule, PLACE)) == schedule  # it is weekly, spelt as cron does


def test_the_service_is_kept_alive() -> None:
    values = launchd.read(launchd.render(TABLE["watch"], PLACE))
    assert values["KeepAlive"] is True
    assert values["AbandonProcessGroup"] is True


@pytest.mark.parametrize("text", ["", "not xml", "<plist><array/></plist>", "<plist><dict/></plist>"])
def test_what_is_not_ours_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableError):
        launchd.parse(text)
    assert launchd.owner(text) is None
