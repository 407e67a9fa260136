"""Units of systemd: golden, valid, and read back to the same schedule."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from calm.schedules import systemd
from calm.schedules.calendar import calendar
from calm.schedules.model import At, Schedule, UnreadableError, UnsupportedError
from calm.schedules.place import Place
from tests.unit.schedules.declarations import TABLE, schedules
from tests.unit.schedules.golden import same

SYSTEM = Place(root="/home/ann/calm", home="/home/ann")
USER = replace(SYSTEM, scope="user")
places = st.sampled_from([SYSTEM, USER])


@settings(deadline=None)
@given(schedules, places)
def test_what_is_rendered_reads_back_as_it_was(schedule: Schedule, place: Place) -> None:
    try:
        real, notes = systemd.effective(schedule, place)
    except UnsupportedError:
        assume(False)
        raise
    assert systemd.parse(systemd.render(schedule, place)) == real
    assert not notes
    assert real == systemd.sensible(schedule)


@pytest.mark.parametrize("scope", ["system", "user"])
@pytest.mark.parametrize("name", TABLE)
def test_golden(name: str, scope: str) -> None:
    schedule = (
        replace(TABLE[name], when=At(event="boot")) if (name, scope) == ("login", "system") else TABLE[name]
    )
    files = systemd.render(schedule, replace(SYSTEM, scope=scope))
    for file, text in files.items():
        assert same(f"systemd-{scope}/{name}/{file}", text.encode())
        assert systemd.owner(text) == "/home/ann/calm"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    odd = Schedule(
        name="odd", when=TABLE["daily"].when, command=("/bin/true", "50% of $HOME", 'a "b" \\c', "—")
    )
    for schedule in [
        replace(each, command=("/bin/true", "x")) for name, each in TABLE.items() if name != "login"
    ] + [odd]:
        for file, text in systemd.render(schedule, SYSTEM).items():
            (tmp_path / file).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("when", "scope"),
    [(At(event="login"), "system"), (At(event="boot"), "user"), (calendar("0 9 1 * 1"), "system")],
)
def test_what_systemd_cannot_do_is_refused_in_plain_words(when: At, scope: str) -> None:
    with pytest.raises(UnsupportedError):
        systemd.render(Schedule(name="odd", when=when, command=("/bin/true",)), replace(SYSTEM, scope=scope))


def test_a_job_that_may_start_lm_studio_is_not_fenced_in_and_another_is() -> None:
    monitor = systemd.fields(systemd.render(TABLE["daily"], SYSTEM)["calm-lmstudio-monitor.service"])
    prune = systemd.fields(systemd.render(TABLE["weekly"], SYSTEM)["calm-prune.service"])
    assert monitor["Service.KillMode"] == ("process",)
    assert "Service.NoNewPrivileges" not in monitor
    assert prune["Service.NoNewPrivileges"] == ("yes",)
    assert prune["Service.ProtectSystem"] == ("full",)


def test_comments_order_and_spaces_do_not_count() -> None:
    files = systemd.render(TABLE["weekly"], SYSTEM)
    loose = {
        name: "; mine\n" + text.replace("=", " = ", 3).replace("\n[", "\n\n# odd\n[")
        for name, text in files.items()
    }
    assert {name: systemd.fields(text) for name, text in loose.items()} == {
        name: systemd.fields(text) for name, text in files.items()
    }


@pytest.mark.parametrize("text", ["", "[Service]\nExecStart=/bin/true\n", "no unit at all"])
def test_a_unit_without_our_mark_is_somebody_elses(text: str) -> None:
    assert systemd.owner(text) is None
    with pytest.raises(UnreadableError):
        systemd.parse({"calm-music.service": text})
