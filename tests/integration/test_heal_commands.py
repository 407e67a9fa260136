"""The commands of one host, as a user calls them, on a real engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calm.settings.dump import to_json
from tests.integration.heal_lab import CRASHING, WELL, age, health, run, settings, state, wait_for
from tests.lab.engine import Engine

pytestmark = pytest.mark.engine

Calm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(engine: Engine, unique_name: Callable[[str], str]) -> Iterator[str]:
    """A project of the test's own; its containers and images go when the test ends."""
    name = unique_name("host")
    yield name
    for label in (f"label=com.docker.compose.project={name}", f"label=com.docker.compose.project={name}-x"):
        if left := engine.lines("ps", "-aq", "--filter", label):
            engine.docker("rm", "-f", *left)
        if left := engine.lines("images", "-q", "--filter", label):
            engine.docker("rmi", "-f", *left)


@pytest.fixture
def calm(engine: Engine, project: str, tmp_path: Path) -> Calm:
    """Runs ``calm`` with the settings of this project; its root is ``tmp_path``."""
    (tmp_path / "settings.json").write_text(json.dumps(to_json(settings(tmp_path, project))))

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _argv(*arguments),
            env=engine.env | {"CALM_ROOT": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return call


def _argv(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from calm.cli.main import main; main()", *arguments]


def test_heal_says_what_it_would_do_and_does_it(
    engine: Engine, project: str, calm: Calm, tmp_path: Path
) -> None:
    name = run(engine, project, "redis", WELL)
    wait_for(lambda: health(engine, name) == "healthy", "it does not get healthy")
    engine.docker("exec", name, "rm", "/tmp/well")
    wait_for(lambda: health(engine, name) == "unhealthy", "it does not get unhealthy")

    planned = calm("heal", "--dry-run", "--only", "docker", "--burst", "1", "--json")
    document = json.loads(planned.stdout)
    assert planned.returncode == 2
    assert document["schema"] == 1
    ours = [each for each in document["findings"] if each["target"] == f"container:{name}"]
    assert [(each["rule"], set(each)) for each in ours] == [
        ("container-unhealthy", {"rule", "target", "evidence", "since"})
    ]
    assert [set(each) for each in document["remedies"]] == [
        {"action", "target", "reason", "result", "took_ms"}
    ]
    assert not (tmp_path / "journal.db").exists()

    healed = calm("heal", "--only", "docker", "--burst", "1")
    assert healed.returncode == 0, healed.stderr
    assert f"done: restart-container container:{name}" in healed.stdout
    assert health(engine, name) == "healthy"

    remembered = json.loads(calm("journal", "--json").stdout)
    assert [(each["action"], each["helped"]) for each in remembered["remedies"]] == [
        ("restart-container", True)
    ]
    (line,) = [each for each in calm("journal").stdout.splitlines() if "restart-container" in each]
    assert line.endswith(f"done    restart-container container:{name}: restarted, it helped")
    with sqlite3.connect(tmp_path / "journal.db") as db:
        assert db.execute("SELECT command, code FROM runs").fetchall() == [("heal --only docker", 0)]
    db.close()


def test_heal_ends_with_7_for_a_crash_loop_whose_budget_is_spent(
    engine: Engine, project: str, calm: Calm, tmp_path: Path
) -> None:
    tree = settings(tmp_path, project, budget={"acts": 1}, rules={"container-crash-looping": {"restarts": 2}})
    (tmp_path / "settings.json").write_text(json.dumps(to_json(tree)))
    name = run(engine, project, "api", CRASHING, "--restart", "always", check=False)

    def healed() -> subprocess.CompletedProcess[str]:
        wait_for(lambda: state(engine, name)["Restarts"] >= 2, "it does not loop")
        wait_for(lambda: state(engine, name)["Status"] == "restarting", "it does not loop any more")
        return calm("heal", "--only", "docker", "--burst", "1")

    first = healed()
    assert first.returncode == 1, first.stdout + first.stderr
    age(tmp_path, 60)
    spent = healed()
    assert spent.returncode == 7, spent.stdout + spent.stderr
    assert f"ALERT container:{name}" in spent.stderr
    assert f"quarantined: restart-container container:{name}" in spent.stdout


def test_watch_ends_cleanly_when_told_to(calm: Calm, engine: Engine, tmp_path: Path) -> None:
    calm("pause", "--for", "2h")
    argv, env = _argv("watch", "--interval", "1"), engine.env | {"CALM_ROOT": str(tmp_path)}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        metrics = tmp_path / "outputs" / "system_metrics.json"
        wait_for(metrics.exists, "no metrics are written")
        first = json.loads(metrics.read_text())["taken_at"]
        wait_for(lambda: json.loads(metrics.read_text())["taken_at"] > first, "no second look")
        watch.send_signal(signal.SIGTERM)
        out, err = watch.communicate(timeout=20)
    assert watch.returncode == 0, err
    assert (out, err) == ("", "")
    assert "taken_at" in metrics.read_text()


def test_watch_that_was_killed_has_lost_no_sample_that_it_wrote(
    calm: Calm, engine: Engine, tmp_path: Path
) -> None:
    calm("pause")
    argv, env = _argv("watch", "--interval", "1"), engine.env | {"CALM_ROOT": str(tmp_path)}
    log = tmp_path / "outputs" / "docker_monitoring.log"
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as watch:
        wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= 2, "it does not look")
        watch.kill()
    times = {json.loads(line)["time"] for line in log.read_text().splitlines()}
    with sqlite3.connect(tmp_path / "journal.db") as db:
        kept = {at for (at,) in db.execute("SELECT at FROM samples")}
    db.close()
    assert times <= kept
    assert calm("watch", "--interval", "1", "--for", "2").returncode == 0


def test_watch_goes_on_with_a_broken_journal_and_without_outputs(calm: Calm, tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"garbage, not a journal. " * 100)
    (tmp_path / "outputs").write_text("a file is in the way")
    done = calm("watch", "--interval", "1", "--for", "3")
    assert done.returncode == 0, done.stderr
    assert "set aside" in done.stderr
    assert done.stderr.count("outputs") == 1
    with sqlite3.connect(tmp_path / "journal.db") as db:
        assert db.execute("SELECT count(*) FROM samples").fetchone()[0] >= 2
    db.close()


def test_watch_goes_on_when_its_disk_is_full_and_says_so(
    engine: Engine, project: str, tmp_path: Path
) -> None:
    root = tmp_path / "small"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "calm-test", str(root)], check=True)
    try:
        (root / "settings.json").write_text(json.dumps(to_json(settings(root, project))))
        argv, env = _argv("watch", "--interval", "1"), engine.env | {"CALM_ROOT": str(root)}
        with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as watch:
            assert watch.stderr is not None
            metrics = root / "outputs" / "system_metrics.json"
            wait_for(metrics.exists, "no metrics are written")
            with contextlib.suppress(OSError), (root / "filler").open("wb") as filler:
                while True:
                    filler.write(bytes(4096))
                    filler.flush()
            told = [watch.stderr.readline()]
            (root / "filler").unlink()
            while "again" not in told[-1]:
                told.append(watch.stderr.readline())
            watch.terminate()
            told += watch.stderr.readlines()
        assert watch.returncode == 0
        text = "".join(told)
        assert "Traceback" not in text
        assert "Watching goes on without it" in text
    finally:
        subprocess.run(["umount", str(root)], check=True)


def _image(engine: Engine, project: str) -> str:
    """A dangling image of the project."""
    text = f"FROM redis:7-alpine\nLABEL com.docker.compose.project={project}\nLABEL made={time.time()}\n"
    return engine.docker("build", "-q", "-", stdin=text).stdout.strip()


def test_prune_takes_what_is_ours_and_old_and_never_a_volume(
    engine: Engine, project: str, calm: Calm, unique_name: Callable[[str], str]
) -> None:
    volume = unique_name("volume")
    engine.docker("volume", "create", "--label", f"calm.project={project}", volume)
    gone = run(engine, project, "old", "echo data > /data/x; head -c 100000 /dev/zero > /junk", "-v",
               f"{volume}:/data", check=False)  # fmt: skip
    runs = run(engine, project, "redis", WELL, check=False)
    other = run(engine, f"{project}-x", "other", "true", check=False)
    ours, theirs = _image(engine, project), _image(engine, f"{project}-x")
    wait_for(lambda: state(engine, gone)["Status"] == "exited", "it does not end")
    wait_for(lambda: state(engine, other)["Status"] == "exited", "it does not end")
    try:
        assert json.loads(calm("prune", "--json").stdout)["removed"] == []
        dry = json.loads(calm("prune", "--dry-run", "--older-than", "0", "--json").stdout)
        assert {each["name"] for each in dry["removed"]} == {gone, ours[7:19]}
        assert dry["bytes"] >= 100_000
        staying = {each["name"]: each["stays"] for each in dry["stays"]}
        assert "not calm's" in staying[other]
        assert "not calm's" in staying[theirs[7:19]]
        assert runs not in staying

        done = json.loads(calm("prune", "--older-than", "0", "--json").stdout)
        assert _names(done["removed"]) == _names(dry["removed"])
        assert (done["bytes"], done["dry_run"]) == (dry["bytes"], False)
        assert engine.docker("inspect", gone, check=False).returncode != 0
        assert engine.docker("inspect", ours, check=False).returncode != 0
        for stays in (runs, other, theirs):
            engine.docker("inspect", stays)
        engine.docker("volume", "inspect", volume)
    finally:
        engine.docker("rm", "-f", runs, other, gone, check=False)
        engine.docker("volume", "rm", volume)


def _names(pieces: list[dict[str, Any]]) -> set[str]:
    return {each["name"] for each in pieces}


def test_restart_takes_a_service_and_waits_for_its_health(
    engine: Engine, project: str, calm: Calm, tmp_path: Path
) -> None:
    name = run(engine, project, "redis", WELL)
    before = state(engine, name)["StartedAt"]
    done = calm("restart", "redis")
    assert done.returncode == 0, done.stderr
    assert "redis: works again" in done.stdout
    assert state(engine, name)["StartedAt"] != before
    assert health(engine, name) == "healthy"
    lease = {"who": "ann@desk pid 7", "run": "r", "created": 0, "expires": time.time() + 60}
    (tmp_path / ".lock.json").write_text(json.dumps(lease))
    refused = calm("restart", "redis")
    assert refused.returncode == 1
    assert "an apply by ann@desk pid 7 is running" in refused.stderr
    (tmp_path / ".lock.json").unlink()
    missing = calm("restart", "postgres")
    assert missing.returncode == 5
    assert "calm apply makes one" in missing.stdout


def test_check_asks_for_real(
    engine: Engine, project: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    ports = {"postgres": free_port(), "redis": free_port()}
    tree = to_json(settings(tmp_path, project))
    for service, port in ports.items():
        tree["docker"][service]["port"] = port
    (tmp_path / "settings.json").write_text(json.dumps(tree))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "redis_password").write_text("hush\n")
    labels = ("--label", f"calm.project={project}", "--label", f"com.docker.compose.project={project}")
    engine.docker(
        "run", "-d", "--name", f"{project}-redis", *labels, "-p", f"127.0.0.1:{ports['redis']}:6379",
        "redis:7-alpine", "redis-server", "--requirepass", "hush",
    )  # fmt: skip
    engine.docker(
        "run", "-d", "--name", f"{project}-postgres", *labels, "-e", "POSTGRES_USER=agent_user",
        "-e", "POSTGRES_DB=agent_system", "-e", "POSTGRES_PASSWORD=x",
        "-p", f"127.0.0.1:{ports['postgres']}:5432", "postgres:15-alpine",
    )  # fmt: skip

    def check() -> dict[str, dict[str, Any]]:
        done = subprocess.run(
            _argv("check", "--json"), env=engine.env | {"CALM_ROOT": str(tmp_path)}, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        document = json.loads(done.stdout)
        assert done.returncode == (0 if document["ok"] else 1)
        return {each["name"]: each for each in document["checks"]}

    wait_for(lambda: check()["postgres"]["ok"], "postgres does not answer")
    answers = check()
    assert {name for name, each in answers.items() if each["ok"]} == set(answers)
    assert set(answers) == {
        "postgres",
        "redis",
        f"container:{project}-redis",
        f"container:{project}-postgres",
    }
    assert answers["redis"]["latency_ms"] > 0

    (tmp_path / "secrets" / "redis_password").write_text("wrong\n")
    engine.docker("stop", "-t", "0", f"{project}-postgres")
    answers = check()
    assert "refuses the password" in answers["redis"]["says"]
    assert not answers["postgres"]["ok"]
    assert answers[f"container:{project}-postgres"]["says"] == "it is exited"


def test_an_engine_that_should_answer_and_does_not_is_a_failure(calm: Calm, tmp_path: Path) -> None:
    record = {"services": {"redis": {"container": "x-redis"}}, "applied_at": time.time()}
    (tmp_path / "record.json").write_text(json.dumps(record))
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/nothing.sock", "CALM_ROOT": str(tmp_path)}
    done = subprocess.run(
        _argv("heal", "--only", "docker", "--burst", "1"),
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert calm("heal", "--only", "lmstudio", "--burst", "1").returncode == 0


def test_settings_that_are_wrong_are_told(calm: Calm, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"docker": {"redis": {"memroy": "1G"}}}')
    done = calm("snapshot")
    assert done.returncode == 4
    assert "calm apply writes this file anew" in done.stderr
    assert 'did you mean "memory"' in done.stderr
