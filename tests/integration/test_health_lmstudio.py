"""What a snapshot sees of LM Studio, on the stand-in's real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from calm.health import processes
from calm.health.model import Instance, Snapshot
from calm.health.model import LMStudio as Seen
from calm.health.snapshot import take
from calm.settings import Settings
from tests.lab.lmstudio import LMStudio, wait_until

MODEL = "qwen/qwen3-4b"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[LMStudio]:
    """LM Studio installed, not started."""
    with LMStudio.install(tmp_path) as installed:
        yield installed


def settings(studio: LMStudio) -> Settings:
    """Settings for this installation alone."""
    return Settings.model_validate(
        {
            "root": str(studio.user_home / "calm"),
            "lmstudio": {"home": str(studio.home), "server": {"port": studio.port}},
            "docker": {"enabled": False},
        }
    )


def look(studio: LMStudio, *, window: float = 0.3, previous: Snapshot | None = None) -> Snapshot:
    """A snapshot of it; the command line was never called for it."""
    snapshot = take(settings(studio), window=window, previous=previous)
    assert snapshot.problems == ()
    assert studio.lms_calls == []
    return snapshot


def only(seen: Seen) -> Instance:
    """The one instance."""
    assert len(seen.instances) == 1
    return seen.instances[0]


def complete(studio: LMStudio, *, models: int = 0) -> None:
    """Wait until a started tree has its eight helpers and a worker for each loaded model."""
    instance = studio.running[0]
    wait_until(lambda: len(instance.pids) == 9 + models, "the tree is not complete")


def settle(studio: LMStudio, *, models: int = 0) -> None:
    """Wait until a started tree is complete and rests."""
    complete(studio, models=models)
    wait_until(lambda: (only(look(studio).lmstudio).cpu_percent or 100) < 15, "it does not come to rest")


def test_one_instance_with_its_eight_helpers_is_one(studio: LMStudio) -> None:
    started = studio.start()
    settle(studio)

    instance = only(look(studio).lmstudio)

    assert instance.root_pid == started.root_pid
    assert instance.processes == 9
    assert {member.pid for member in instance.members} == set(started.pids)
    assert instance.executable == str(studio.executable)
    assert studio.port in instance.listens
    assert (instance.serves_api, instance.named, instance.home) == (True, True, str(studio.home))
    assert (instance.busy, instance.connections) == (False, 0)
    assert instance.uss_bytes is not None
    assert instance.uss_bytes > 9 * 1_000_000
    assert instance.cpu_percent is not None
    assert instance.cpu_percent < 20


def test_two_instances_and_which_of_them_serves(studio: LMStudio) -> None:
    first, second = studio.start(), studio.start()

    seen = look(studio).lmstudio

    assert [each.root_pid for each in seen.instances] == [first.root_pid, second.root_pid]
    assert [each.serves_api for each in seen.instances] == [True, False]
    assert [each.named for each in seen.instances] == [True, False]


def test_the_headless_daemon(tmp_path: Path) -> None:
    with LMStudio.install(tmp_path, form="llmster", version="0.0.15") as studio:
        started = studio.start(loaded=[MODEL])
        seen = look(studio).lmstudio

        assert (only(seen).form, only(seen).root_pid) == ("llmster", started.root_pid)
        assert [model.id for model in seen.api.models_loaded or ()] == [MODEL]


def test_programs_that_only_look_alike_are_not_seen(studio: LMStudio, tmp_path: Path) -> None:
    studio.start()
    stranger = tmp_path / "elsewhere" / "lm-studio"
    stranger.parent.mkdir()
    os.link("/bin/sleep", stranger)
    shell = ["/bin/sh", "-c", "read line", str(studio.executable), "LM Studio --type=renderer"]
    with subprocess.Popen([stranger, "60"]) as alike, subprocess.Popen(shell, stdin=subprocess.PIPE) as named:
        try:
            seen = look(studio).lmstudio
        finally:
            alike.kill()
            named.kill()

    pids = {member.pid for each in (*seen.instances, *seen.others) for member in each.members}
    assert not pids & {alike.pid, named.pid, os.getpid()}


def test_another_users_instance_is_none_of_ours(studio: LMStudio, tmp_path: Path) -> None:
    mine = studio.start()
    with LMStudio.install(tmp_path / "somebody") as other:
        theirs = other.start()
        seen = look(studio).lmstudio

    assert only(seen).root_pid == mine.root_pid
    assert theirs.root_pid in {each.root_pid for each in seen.others}


@pytest.mark.parametrize("place", ["root", "worker"])
def test_spinning_while_idle_is_not_busy(studio: LMStudio, place: str) -> None:
    studio.start().control(spin=place)

    def spinning() -> bool:
        seen = only(look(studio).lmstudio)
        workers, whole = seen.workers_cpu_percent or 0.0, seen.cpu_percent or 0.0
        return seen.busy is False and (workers if place == "worker" else whole - workers) > 30

    wait_until(spinning, "nothing spins")


def test_answering_a_stream_is_busy(studio: LMStudio) -> None:
    studio.start(loaded=[MODEL], tokens_per_s=20).control(spin="worker")
    body = {"model": MODEL, "stream": True, "max_tokens": 40}
    with httpx.stream("POST", f"{studio.url}/v1/chat/completions", json=body, timeout=30) as stream:
        lines = stream.iter_lines()
        next(lines)
        # Our own connections do not count, so the question comes from another process.
        asked = subprocess.run(
            [sys.executable, "-c", ASK, str(studio.home), str(studio.port)],
            capture_output=True,
            text=True,
            check=True,
        )
        rest = list(lines)

    assert json.loads(asked.stdout) == {"busy": True, "connections": 1}
    assert rest[-2] == "data: [DONE]"


ASK = """
import json, sys
from calm.health.snapshot import take
from calm.settings import Settings
lmstudio = {"home": sys.argv[1], "server": {"port": int(sys.argv[2])}}
settings = Settings.model_validate({"lmstudio": lmstudio, "docker": {"enabled": False}})
seen = take(settings, window=0.2).lmstudio
print(json.dumps({"busy": seen.instances[0].busy, "connections": seen.instances[0].connections}))
"""


def test_cpu_of_requests_that_came_and_went_is_not_spinning(studio: LMStudio) -> None:
    instance = studio.start(loaded=[MODEL], tokens_per_s=20, work=True)
    # A child caught between fork and exec is none of LM Studio's yet, and leaves the first sample without it.
    settle(studio, models=1)
    first = look(studio)
    body = {"model": MODEL, "max_tokens": 20}
    httpx.post(f"{studio.url}/v1/chat/completions", json=body, timeout=30).raise_for_status()

    seen = only(look(studio, previous=first).lmstudio)

    assert instance.root_pid == seen.root_pid
    assert (seen.cpu_percent or 0) > 25
    assert seen.busy is True


def test_a_chat_in_the_window_is_busy(studio: LMStudio) -> None:
    studio.start()
    settle(studio)
    chat = studio.home / "conversations" / "today.json"
    chat.parent.mkdir()
    chat.write_text("{}")

    assert only(look(studio).lmstudio).busy is True
    os.utime(chat, (0, time.time() - 600))
    assert only(look(studio).lmstudio).busy is False


@pytest.mark.parametrize(("version", "sized"), [("0.4.7", True), ("0.3.32", False)])
def test_loaded_models_of_both_apis(tmp_path: Path, version: str, sized: bool) -> None:
    with LMStudio.install(tmp_path, version=version) as studio:
        studio.start(loaded=[MODEL, MODEL])
        seen = look(studio).lmstudio

    assert seen.version == version
    models = seen.api.models_loaded or ()
    assert [(each.id, each.key) for each in models] == [(MODEL, MODEL), (f"{MODEL}:2", MODEL)]
    assert {each.size_bytes for each in models} == ({2_500_000_000} if sized else {None})
    assert seen.api.jit_ttl_seconds == 7200


def test_how_long_a_model_has_been_idle_is_counted(studio: LMStudio) -> None:
    studio.start(loaded=[MODEL])
    settle(studio, models=1)
    first = look(studio)
    wait_until(lambda: time.time() - first.taken_at > 1.0, "time stands still")
    second = look(studio, previous=first)

    idle = [(each.lmstudio.api.models_loaded or ())[0].idle_seconds for each in (first, second)]
    assert idle[0] == 0.0
    assert idle[1] == pytest.approx(second.taken_at - first.taken_at, abs=0.1)


def test_an_api_that_hangs_is_told_apart_from_one_that_is_off(studio: LMStudio) -> None:
    running = studio.start()
    running.control(hang=True)
    hung = look(studio).lmstudio.api
    running.post("/lab/server/stop", {})
    off = look(studio).lmstudio.api

    assert (hung.reachable, hung.error) == (False, "no answer within 2 s")
    assert (off.reachable, off.error) == (False, "nothing listens there, or it refuses to talk")


def test_one_that_wants_a_token_is_alive(studio: LMStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    studio.start(loaded=[MODEL]).control(token="sk-lm-12345678:secret")
    monkeypatch.delenv("LM_API_TOKEN", raising=False)
    without = look(studio)
    monkeypatch.setenv("LM_API_TOKEN", "sk-lm-12345678:secret")
    given = look(studio)

    assert (without.lmstudio.api.reachable, without.lmstudio.api.needs_token) == (True, True)
    assert without.endpoints[0].ok
    assert [model.id for model in given.lmstudio.api.models_loaded or ()] == [MODEL]
    assert "secret" not in json.dumps(given.to_json())


def test_a_leak_shows_in_the_memory_of_the_instance(studio: LMStudio) -> None:
    studio.start().control(leak_mb_per_s=40, leak_in="worker")
    before = only(look(studio).lmstudio).uss_bytes
    assert before is not None

    wait_until(lambda: (only(look(studio).lmstudio).uss_bytes or 0) > before + 10_000_000, "nothing leaks")


def test_helpers_that_outlive_their_instance_are_left_over(studio: LMStudio) -> None:
    started = studio.start(strays=True)
    complete(studio)
    os.kill(started.root_pid, signal.SIGKILL)
    wait_until(lambda: not started.running, "the root does not die")

    seen = look(studio).lmstudio

    assert seen.instances == ()
    mine = [each for each in seen.leftovers if Path(each.executable).is_relative_to(studio.user_home)]
    assert {each.kind for each in mine} == {"helper", "worker"}


def test_nothing_runs_and_nothing_is_woken(studio: LMStudio) -> None:
    seen = look(studio).lmstudio

    assert (seen.installed, seen.instances, seen.api.reachable) == (True, (), False)
    assert studio.pids == []


def test_a_process_is_known_again_before_a_signal(studio: LMStudio) -> None:
    started = studio.start()
    key = only(look(studio).lmstudio).members[0]

    assert processes.alive(key)
    os.kill(started.root_pid, signal.SIGTERM)
    wait_until(lambda: not processes.alive(key), "the root does not quit")
    wait_until(lambda: not studio.pids, "its helpers do not end with it")


def test_the_stand_in_rewrites_its_settings_when_it_quits(studio: LMStudio) -> None:
    started = studio.start()
    edited = json.loads(studio.settings_file.read_text()) | {"enableLocalService": True}
    studio.settings_file.write_text(json.dumps(edited))
    os.kill(started.root_pid, signal.SIGTERM)
    wait_until(lambda: not started.running, "it does not quit")

    assert json.loads(studio.settings_file.read_text())["enableLocalService"] is False


def test_the_stand_in_refuses_to_quit_when_told_to(studio: LMStudio) -> None:
    started = studio.start(refuse_quit=True)
    os.kill(started.root_pid, signal.SIGTERM)
    with pytest.raises(TimeoutError):
        wait_until(lambda: not started.running, "it stays", timeout=0.6)

    assert psutil.pid_exists(started.root_pid)


def test_its_command_line_wakes_it_as_the_real_one_does(studio: LMStudio) -> None:
    def lms(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [studio.lms, *arguments], env=studio.env, capture_output=True, text=True, check=False
        )

    status = lms("server", "status", "--json")
    assert json.loads(status.stdout) == {"running": False, "port": studio.port}
    assert studio.pids == []

    assert json.loads(lms("ps", "--json").stdout) == []
    assert len(studio.running) == 1
    assert lms("load", MODEL).returncode == 0
    assert lms("unload", "no such model").returncode == 0
    assert lms("unload", "--all").returncode == 0
    assert lms("unload").returncode == 1
    assert lms("server", "stop").returncode == 0
    assert lms("server", "stop").returncode == 1
    assert lms("server", "start").returncode == 0
    assert lms("daemon", "down").returncode == 1
    assert studio.lms_calls[:2] == [["server", "status", "--json"], ["ps", "--json"]]


def test_a_chat_loads_its_model_on_demand_and_it_leaves_when_idle(tmp_path: Path) -> None:
    ttl = {"developer": {"jitModelTTL": {"enabled": True, "ttlSeconds": 1}}}
    with LMStudio.install(tmp_path, settings=ttl) as studio:
        studio.start()
        body = {"model": MODEL, "max_tokens": 2}
        threading.Thread(target=lambda: httpx.post(f"{studio.url}/v1/chat/completions", json=body)).start()
        listed = lambda: httpx.get(f"{studio.url}/api/v0/models").json()["data"][0]["state"]  # noqa: E731
        wait_until(lambda: listed() == "loaded", "no model comes")
        wait_until(lambda: listed() == "not-loaded", "the model does not leave")

        assert httpx.get(f"{studio.url}/health").json()["error"].startswith("Unexpected endpoint")
