"""Tasks registered by an implementation of schtasks that calm's authors did not write: Wine's."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings

from calm.onhost.schedule_effects import task
from calm.schedules import taskscheduler as tasks
from calm.schedules.model import (
    DAYS,
    Clock,
    Daily,
    Every,
    Hourly,
    Monthly,
    Schedule,
    UnsupportedError,
    Weekly,
)
from calm.schedules.place import Place
from tests.unit.schedules.declarations import TABLE, schedules

WINE = "/usr/lib/wine/wine64"
PLACE = Place(root="C:\\calm", home="C:\\users\\root", user="root")

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not Path(WINE).exists(), reason="needs Debian's wine64: apt-get install wine64"),
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where Wine keeps the tasks of a prefix of our own."""
    prefix = tmp_path_factory.mktemp("wine")
    old = dict(os.environ)
    os.environ |= {"WINEPREFIX": str(prefix), "WINEARCH": "win64", "WINEDEBUG": "-all", "DISPLAY": ""}
    try:
        subprocess.run([WINE, "wineboot.exe", "-i"], check=False, capture_output=True, timeout=180)
        yield prefix / "drive_c" / "windows" / "system32" / "tasks"
    finally:
        subprocess.run(["/usr/lib/wine/wineserver64", "-k"], check=False, capture_output=True)
        os.environ.clear()
        os.environ.update(old)
        shutil.rmtree(prefix, ignore_errors=True)


def _effect(schedule: Schedule, text: str | None) -> dict[str, object]:
    programs = {"program": [WINE, "schtasks.exe"], "translate": [WINE, "winepath.exe", "-w"]}
    return {"name": tasks.FOLDER + schedule.name, "content": text, **programs}


def _accepted(schedule: Schedule, stored: Path) -> None:
    """Wine parses the whole and keeps what it knows: the head and the settings, no trigger and no command."""
    text = tasks.render(schedule, PLACE)
    task(_effect(schedule, text), None)
    kept = (stored / "calm" / schedule.name).read_text(encoding="utf-8-sig")
    ours, theirs = _values(text), _values(kept)
    assert tasks.owner(kept) == PLACE.root
    assert {path: theirs.get(path) for path in _KEPT} == {path: ours.get(path) for path in _KEPT}
    task(_effect(schedule, None), None)
    assert not (stored / "calm" / schedule.name).exists()


_SETTINGS = (
    "MultipleInstancesPolicy",
    "StartWhenAvailable",
    "Enabled",
    "Hidden",
    "ExecutionTimeLimit",
    "Priority",
)
_KEPT = [f"Settings/{name}" for name in _SETTINGS] + ["RegistrationInfo/URI", "RegistrationInfo/Description"]


def _values(text: str) -> dict[str, str | None]:
    task = ElementTree.fromstring(text[text.index("<Task") :])
    space = f"{{{tasks.NAMESPACE}}}"
    return {
        f"{part.tag.removeprefix(space)}/{each.tag.removeprefix(space)}": each.text
        for part in task
        for each in part
    }


def _twenty() -> list[Schedule]:
    chosen = random.Random(20)
    clock = lambda: Clock(hour=chosen.randrange(24), minute=chosen.randrange(60))  # noqa: E731
    whens = [
        *(Daily(clock=clock()) for _ in range(4)),
        *(Hourly(minute=minute) for minute in (0, 30)),
        *(Weekly(days=DAYS[:length], clock=clock()) for length in (1, 3, 7)),
        *(Monthly(day=day, clock=clock()) for day in (1, 28)),
        *(Every(seconds=60 * minutes) for minutes in (5, 90)),
    ]
    base = TABLE["weekly"]
    return [*TABLE.values(), *(replace(base, name=f"made-{at}", when=when) for at, when in enumerate(whens))]


@pytest.mark.parametrize("schedule", _twenty(), ids=lambda each: each.name)
def test_wine_takes_the_task_and_keeps_it_as_it_was(stored: Path, schedule: Schedule) -> None:
    _accepted(schedule, stored)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(schedules)
def test_wine_takes_generated_tasks(stored: Path, schedule: Schedule) -> None:
    try:
        tasks.effective(schedule, PLACE)
    except UnsupportedError:
        return
    _accepted(schedule, stored)
