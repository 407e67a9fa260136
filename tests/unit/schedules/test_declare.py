"""What the settings declare, as schedules; and every command is one that this version has."""

from __future__ import annotations

import click
import pytest

from calm.cli.main import calm
from calm.schedules import cron, launchd, systemd
from calm.schedules.declare import declared, when_of
from calm.schedules.model import Always, At, Calendar, Clock, Daily, Every, Hourly, Monthly, Weekly
from calm.schedules.place import Place
from calm.settings.schedules import Job, Schedules

PROGRAM = ("/root/calm/agent/venv/bin/calm",)
FILE = "/root/calm/settings.json"
PULL = {
    "daily": "03:30",
    "run": "pull --from ssh://git@git.example.org:2222/ops/calm.git --ref main",
    "jitter": "30m",
    "timeout": "1h",
}


def test_the_defaults_are_those_of_the_report() -> None:
    found = {each.name: each for each in declared(Schedules(), calm=PROGRAM, settings_file=FILE)}
    nine, eleven = Clock(hour=9, minute=0), Clock(hour=23, minute=0)
    assert {name: found[name].when for name in ("lmstudio-monitor", "docker-health", "prune", "watch")} == {
        "lmstudio-monitor": Daily(clock=nine),
        "docker-health": Hourly(),
        "prune": Weekly(days=("Sun",), clock=eleven),
        "watch": Always(),
    }
    assert found["performance-test"].when == Weekly(days=("Sun",), clock=Clock(hour=4, minute=0))
    assert found["performance-test"].command == (*PROGRAM, "bench", "full", "--settings", FILE)
    assert found["prune"].command == (*PROGRAM, "prune", "--settings", FILE)
    assert "report" not in found


def test_watch_can_be_off() -> None:
    names = {each.name for each in declared(Schedules(watch=False), calm=PROGRAM, settings_file=FILE)}
    assert "watch" not in names


@pytest.mark.parametrize(
    ("key", "value", "when"),
    [
        ("daily", "06:30", Daily(clock=Clock(hour=6, minute=30))),
        ("hourly", 5, Hourly(minute=5)),
        ("weekly", "Wed 7:05", Weekly(days=("Wed",), clock=Clock(hour=7, minute=5))),
        ("monthly", "28 00:00", Monthly(day=28, clock=Clock(hour=0, minute=0))),
        ("every", "10m", Every(seconds=600)),
        ("at", "login", At(event="login")),
        ("calendar", "Mon..Fri *-*-* 08:30:15", Calendar(expression="Mon..Fri *-*-* 08:30:15")),
        ("calendar", "30 8 * * 3", Weekly(days=("Wed",), clock=Clock(hour=8, minute=30))),
    ],
)
def test_every_trigger_of_the_settings_has_its_times(key: str, value: object, when: Daily) -> None:
    assert when_of(Job.model_validate({key: value, "run": "check"}).trigger) == when


def test_a_host_can_pull_on_a_schedule_at_a_time_of_its_own() -> None:
    jobs = Schedules.model_validate({"jobs": {"pull": PULL}})
    (pull,) = [each for each in declared(jobs, calm=PROGRAM, settings_file=FILE) if each.name == "pull"]
    place = Place(root="/root/calm", home="/root")
    units = systemd.render(pull, place)
    assert "RandomizedDelaySec=1800" in units["calm-pull.timer"]
    assert "ssh://git@git.example.org:2222/ops/calm.git" in units["calm-pull.service"]
    assert "ProtectSystem" not in units["calm-pull.service"], "it writes the units of /etc/systemd, too"
    assert systemd.parse(units).command == pull.command
    assert cron.parse(cron.render(pull, place)).command == pull.command
    assert cron.parse(cron.render(pull, place)).jitter == 1800
    assert launchd.parse(launchd.render(pull, place)).command == pull.command


@pytest.mark.parametrize("address", ["git@git.example.org:ops/calm.git", "https://git.example.org/calm.git"])
def test_an_address_of_git_can_be_declared(address: str) -> None:
    assert Job.model_validate({**PULL, "run": f"pull --from {address}"}).run.endswith(address)


_ALL = Schedules.model_validate({"jobs": {"pull": PULL}})


@pytest.mark.parametrize(
    "schedule", declared(_ALL, calm=PROGRAM, settings_file=FILE), ids=lambda each: each.name
)
def test_the_command_line_takes_every_command(schedule: object) -> None:
    words = list(schedule.command[1:])  # type: ignore[attr-defined]
    root = click.Context(calm, info_name="calm")
    command: click.Command | None = calm
    while isinstance(command, click.Group):
        command = command.get_command(root, words.pop(0))
    assert command is not None
    parsed = command.make_context(command.name, words, parent=root)
    assert FILE in parsed.params.values()
