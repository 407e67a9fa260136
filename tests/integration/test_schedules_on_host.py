"""Schedules on a real host, under systemd, a user's systemd and cron: tampered with, and put right."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from calm.drift.model import Action, Origin
from tests.integration.scheduled import Scheduled
from tests.lab import hosts
from tests.lab.engine import Engine, wait_until

pytestmark = pytest.mark.host

UNITS = "/etc/systemd/system"
FOREIGN_CRONTAB = (
    "MAILTO=ann\r\n# mine: calm-prune\r\n5 4 * * * /usr/bin/true 'a  b' \\% \r\n@daily /bin/echo CALM"
)


@pytest.fixture(scope="module")
def host(engine: Engine, host_key: Any, unique_name: Callable[[str], str]) -> Iterator[hosts.Host]:
    """One host for the whole module: booting takes longer than any of its tests."""
    name = unique_name("sched")
    try:
        yield hosts.start(engine, name, key=host_key)
    finally:
        hosts.destroy(engine, name)


@pytest.fixture(scope="module")
def systemd(host: hosts.Host) -> Scheduled:
    """Schedules of root, under systemd."""
    scheduled = Scheduled(host=host)
    scheduled.install_agent()
    return scheduled


@pytest.fixture(scope="module")
def cron(host: hosts.Host) -> Scheduled:
    """Schedules of ops, under cron, beside lines of its own: the last without an end, all with CRLF."""
    scheduled = Scheduled(host=host, user="ops", settings={"backend": "cron"})
    scheduled.install_agent()
    # cron(8) refuses a crontab without a last line end, but an editor of the spool file does not.
    spool = "/var/spool/cron/crontabs/ops"
    host.run(
        "sh", "-c", f"cat > {spool} && chown ops:crontab {spool} && chmod 600 {spool}", stdin=FOREIGN_CRONTAB
    )
    return scheduled


def _crontab(cron: Scheduled) -> bytes:
    """As it is stored, without the head of crontab(1): `crontab -l` prints a CR as two letters."""
    bare = "sed '1,3{/^# DO NOT EDIT/d;/^# (/d}' /var/spool/cron/crontabs/ops | base64 -w0"
    return base64.b64decode(cron.host.run("sh", "-c", bare).stdout)


def test_a_new_host_gets_timers_and_the_service(systemd: Scheduled) -> None:
    created = systemd.apply()
    assert {each.action for each in created.values()} == {Action.CREATE}
    assert systemd.sh("systemctl is-active calm-watch.service calm-prune.timer").split() == [
        "active",
        "active",
    ]
    assert not systemd.apply()
    runs = systemd.state()["schedules"]["runs"]
    assert runs["prune"]["next_run"] > systemd.state()["host"]["now"]
    assert runs["watch"]["last_result"] == "success"


def test_systemd_has_nothing_to_say_about_what_was_installed(systemd: Scheduled) -> None:
    systemd.apply()
    assert systemd.sh(f"systemd-analyze verify {UNITS}/calm-* 2>&1") == ""


MATRIX = {
    "disabled": ("systemctl disable calm-prune.timer", "enabled"),
    "stopped": ("systemctl stop calm-prune.timer", "active"),
    "edited": (f"sed -i s/23:00/04:00/ {UNITS}/calm-prune.timer", "timer.Timer.OnCalendar"),
    "masked": (
        f"systemctl stop calm-prune.timer; rm {UNITS}/calm-prune.timer; systemctl mask calm-prune.timer",
        "enabled",
    ),
    "emptied": (f": > {UNITS}/calm-prune.timer", "timer.Timer.OnCalendar"),
    "one file removed": (f"rm {UNITS}/calm-prune.service", "service.Service.ExecStart"),
    "limits edited": (
        f"sed -i s/CPUWeight=20/CPUWeight=900/ {UNITS}/calm-prune.service",
        "service.Service.CPUWeight",
    ),
}


@pytest.mark.parametrize("case", MATRIX)
def test_a_timer_that_was_tampered_with_is_the_hosts_drift_and_is_put_right(
    systemd: Scheduled, case: str
) -> None:
    systemd.apply()
    command, path = MATRIX[case]
    systemd.sh(f"{command}; systemctl daemon-reload")
    (drifted,) = [resource for resource in systemd.plan().resources if resource.pending]
    assert (drifted.id, drifted.origin, drifted.refused) == ("schedule:prune", Origin.HOST, None)
    assert path in {change.path for change in drifted.changes}
    systemd.apply()
    assert systemd.sh(
        "systemctl is-enabled calm-prune.timer; systemctl is-active calm-prune.timer"
    ).split() == [
        "enabled",
        "active",
    ]


def test_a_schedule_that_was_removed_comes_back(systemd: Scheduled) -> None:
    systemd.apply()
    systemd.sh(f"systemctl disable --now calm-prune.timer; rm {UNITS}/calm-prune.*; systemctl daemon-reload")
    (came,) = systemd.apply().values()
    assert (came.action, came.origin) == (Action.CREATE, Origin.HOST)


def test_an_orphan_of_ours_goes_and_a_foreign_one_with_a_like_name_stays(systemd: Scheduled) -> None:
    systemd.apply()
    foreign = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n"
    systemd.sh(
        f"cat > {UNITS}/calm-music.timer && cp {UNITS}/calm-music.timer {UNITS}/calm-x.timer", stdin=foreign
    )
    copied = f"for kind in service timer; do cp {UNITS}/calm-prune.$kind {UNITS}/calm-old.$kind; done"
    systemd.sh(f"{copied}; sed -i s/Name=prune/Name=old/ {UNITS}/calm-old.*; systemctl daemon-reload")
    systemd.sh("systemctl enable --now calm-old.timer")
    (gone,) = systemd.apply().values()
    assert (gone.id, gone.action) == ("schedule:old", Action.REMOVE)
    assert systemd.sh(f"cat {UNITS}/calm-music.timer") == foreign
    assert "calm-old" not in systemd.sh("systemctl list-units --all 'calm-*' --no-legend")
    systemd.sh(f"rm {UNITS}/calm-music.timer {UNITS}/calm-x.timer; systemctl daemon-reload")


def test_a_foreign_unit_under_our_very_name_is_refused_and_kept(systemd: Scheduled) -> None:
    systemd.apply()
    systemd.sh(f"printf '[Timer]\\nOnCalendar=daily\\n' > {UNITS}/calm-mine.timer; systemctl daemon-reload")
    jobs = {**systemd.settings.get("jobs", {}), "mine": {"daily": "10:00", "run": "check"}}
    (refused,) = [each for each in systemd.plan(jobs=jobs).resources if each.refused]
    assert refused.id == "schedule:mine"
    systemd.sh(f"rm {UNITS}/calm-mine.timer; systemctl daemon-reload")
    systemd.apply(jobs={})


def test_a_renamed_job_leaves_no_orphan(systemd: Scheduled) -> None:
    systemd.apply()
    changed = systemd.apply(
        jobs={"prune": {"enabled": False}, "sweep": {"weekly": "Sun 23:00", "run": "prune"}}
    )
    assert {name: each.action for name, each in changed.items()} == {
        "schedule:prune": Action.REMOVE,
        "schedule:sweep": Action.CREATE,
    }
    assert "calm-prune" not in systemd.sh(f"ls {UNITS} {UNITS}/timers.target.wants")
    systemd.apply(jobs={})


def test_a_service_that_is_killed_is_started_again(systemd: Scheduled) -> None:
    systemd.apply()
    before = systemd.sh("systemctl show calm-watch -p MainPID --value").strip()
    systemd.sh(f"sed -i s/RestartSec=10/RestartSec=0/ {UNITS}/calm-watch.service; systemctl daemon-reload")
    systemd.sh(f"kill -9 {before}")

    def revived() -> bool:
        now = systemd.sh("systemctl show calm-watch -p MainPID --value").strip()
        return now not in ("0", before)

    wait_until(revived, "watch was not started again", 15)
    assert systemd.apply()["schedule:watch"].changes[0].path == "service.Service.RestartSec"


def test_a_timer_fires_runs_the_agent_and_its_result_is_read(systemd: Scheduled) -> None:
    """The job checks, and its stand-in exits 3: a failure is told, not hidden."""
    systemd.apply(jobs={"soon": {"calendar": "*-*-* *:*:0/2", "run": "check", "catch_up": False}})

    def ran() -> bool:
        run: dict[str, Any] = systemd.state()["schedules"]["runs"]["soon"]
        return bool(run["last_run"]) and run["exit_status"] == 3

    wait_until(ran, "the timer did not fire", 75)
    assert f"check --settings {systemd.root}/settings.json" in systemd.sh(f"cat {systemd.root}/ran")
    assert systemd.state()["schedules"]["runs"]["soon"]["last_result"] == "exit-code"
    systemd.apply(jobs={})


def test_a_user_without_rights_gets_timers_of_its_own_manager(host: hosts.Host) -> None:
    host.run("loginctl", "enable-linger", "ops")
    manager = ("test", "-S", "/run/user/1000/systemd/private")
    wait_until(lambda: host.run(*manager, check=False).returncode == 0, "no manager", 20)
    user = Scheduled(host=host, user="ops", settings={"backend": "systemd-user"})
    user.install_agent()
    user.apply()
    assert user.sh("systemctl --user is-active calm-watch.service").strip() == "active"
    user.sh("systemctl --user disable --now calm-prune.timer")
    assert user.apply()["schedule:prune"].origin is Origin.HOST
    user.apply(backend="none")
    # systemd remembers a unit for a while after its file is gone, as `not-found`.
    units = "systemctl --user list-units --all --no-legend 'calm-*' | grep -v ' not-found '"
    assert "calm-" not in user.sh(f"{units}; ls .config/systemd/user")


def test_a_crontab_keeps_its_own_lines_byte_for_byte(cron: Scheduled) -> None:
    cron.apply()
    assert _crontab(cron).startswith(FOREIGN_CRONTAB.encode() + b"\n# calm: begin")
    assert not cron.apply()
    cron.apply(backend="none")
    assert _crontab(cron) == FOREIGN_CRONTAB.encode() + b"\n"
    cron.apply(backend="cron")


CRON_MATRIX = {
    "edited": "sed 's/^0 23 \\(.*prune\\)/5 23 \\1/'",
    "commented": "sed 's/^0 23/#0 23/'",
    "removed": "grep -v CALM_SCHEDULE=prune",
    "twice": "sed '/CALM_SCHEDULE=prune/p'",
    "carriage returns": "sed 's/$/\\r/'",
    "without the block's edges": "grep -v '^# calm:'",
}


@pytest.mark.parametrize("case", CRON_MATRIX)
def test_a_crontab_that_was_tampered_with_ends_as_it_was(cron: Scheduled, case: str) -> None:
    cron.apply()
    before = cron.sh("crontab -l | grep CALM_SCHEDULE")
    cron.sh(f"crontab -l | {CRON_MATRIX[case]} | crontab -")
    drifted = cron.apply()
    names = ("docker-health", "lmstudio-monitor", "performance-test", "prune", "watch")
    all_of_them = {f"schedule:{name}" for name in names}
    expected = {"carriage returns": all_of_them, "without the block's edges": set()}
    assert set(drifted) == expected.get(case, {"schedule:prune"})
    assert cron.sh("crontab -l | grep CALM_SCHEDULE") == before


def test_the_crontabs_line_brings_the_service_up_once_and_again_after_its_death(cron: Scheduled) -> None:
    cron.apply()
    line = cron.sh("crontab -l | grep '^\\* \\* \\* \\* \\* CALM_SCHEDULE=watch'").strip()
    command = line.split(" ", 5)[5].replace("\\%", "%")
    pid = f"{cron.root}/agent/watch.pid"

    def start() -> str:
        cron.host.run("sudo", "-u", "ops", "sh", "-c", f"{command} 2>/dev/null &")
        wait_until(lambda: cron.sh(f"cat {pid} 2>/dev/null; true").strip() != "", "no pid file", 10)
        return cron.sh(f"cat {pid}").strip()

    first = start()
    assert start() == first
    cron.sh(f"kill -9 {first}")
    wait_until(lambda: start() != first, "the service was not revived", 10)
    cron.sh(f"kill $(cat {pid})")


@pytest.mark.full
def test_cron_itself_runs_the_service(cron: Scheduled) -> None:
    cron.sh(f"rm -f {cron.root}/ran {cron.root}/agent/watch.pid")
    cron.apply()
    wait_until(
        lambda: "watch" in cron.sh(f"cat {cron.root}/ran 2>/dev/null; true"), "cron did not run it", 130
    )
    assert os.fspath(cron.sh(f"cat {cron.root}/agent/watch.pid").strip()).isdigit()
