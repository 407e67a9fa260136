"""A sick LM Studio, on the stand-in's real processes: what is done about it, and what is let alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from calm.heal import leak
from calm.heal.actions_lmstudio import LMStudio as Acts
from calm.heal.model import Finding, Remedy
from calm.heal.once import Done
from calm.heal.view import trace
from calm.heal.watch import Watch
from calm.health.snapshot import take
from calm.journal import Journal
from calm.settings import Settings
from calm.settings.load import Layer, load
from tests.integration.heal_lab import QUICK, heal_once, wait_for
from tests.lab.lmstudio import Instance, LMStudio

MODEL = "qwen/qwen3-4b"
MIB = 2**20


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[LMStudio]:
    """LM Studio installed, not started."""
    with LMStudio.install(tmp_path) as installed:
        yield installed


def settings(studio: LMStudio, **healing: Any) -> Settings:
    """Settings for this installation alone."""
    tree = {
        "root": str(studio.user_home / "calm"),
        "docker": {"enabled": False},
        "lmstudio": {"home": str(studio.home), "server": {"port": studio.port}},
        "healing": {"cpu_percent": 20} | healing,
    }
    return load([Layer(source="the test", data=tree)], host="test")


def heal(studio: LMStudio, said: list[str] | None = None, **healing: Any) -> Done:
    tree = settings(studio, **healing)
    return heal_once(tree, Path(tree.root), said=said, only="lmstudio")


def spinning_healed(studio: LMStudio) -> tuple[Remedy, ...]:
    """What is done about one that spins, which on a busy machine may not show at once."""
    for _ in range(5):
        if remedies := heal(studio).remedies:
            return remedies
    return ()


def complete(instance: Instance) -> set[int]:
    """Wait for the whole tree, root and eight helpers; its processes."""
    wait_for(lambda: len(instance.pids) >= 9, "the tree is not complete")
    return set(instance.pids)


def gone(pids: set[int]) -> bool:
    alive = [process for process in psutil.process_iter(["status"]) if process.pid in pids]
    return all(process.info["status"] == psutil.STATUS_ZOMBIE for process in alive)


def test_one_instance_with_its_eight_helpers_is_left_alone(studio: LMStudio) -> None:
    instance = studio.start()
    before = complete(instance)
    done = heal(studio)
    assert (done.findings, done.remedies, done.blind) == ((), (), ())
    assert set(instance.pids) == before
    assert studio.lms_calls == []


def test_of_two_instances_the_one_with_the_port_stays_and_the_other_goes_whole(
    studio: LMStudio, tmp_path: Path
) -> None:
    first = studio.start()
    second = studio.start()
    stay, go = complete(first), complete(second)
    alike = tmp_path / "elsewhere" / "lm-studio"
    alike.parent.mkdir()
    os.link("/bin/sleep", alike)
    shell = ["/bin/sh", "-c", "read line", "LM Studio", str(studio.executable)]
    with subprocess.Popen([alike, "60"]) as stranger, subprocess.Popen(shell, stdin=subprocess.PIPE) as named:
        try:
            (remedy,) = heal(studio).remedies
            assert stranger.poll() is None
            assert named.poll() is None
        finally:
            stranger.kill()
            named.kill()
    assert (remedy.action, remedy.target, remedy.result) == ("end", f"lmstudio:{second.root_pid}", "done")
    assert "it quit with its 9 processes" in remedy.reason
    wait_for(lambda: gone(go), "some of its processes live on")
    assert set(first.pids) == stay
    assert httpx.get(f"{studio.url}/lmstudio-greeting").json() == {"lmstudio": True}


def test_one_that_refuses_to_quit_is_killed_with_its_children(studio: LMStudio) -> None:
    studio.start()
    second = studio.start(refuse_quit=True)
    go = complete(second)
    (remedy,) = heal(studio).remedies
    assert remedy.result == "done"
    assert "kill" in remedy.reason
    wait_for(lambda: gone(go), "some of its processes live on")


def test_spinning_while_idle_is_restarted_as_it_was(studio: LMStudio) -> None:
    first = studio.start(spin="root")
    complete(first)
    before = psutil.Process(first.root_pid).cmdline()
    # Started again it would spin again: the switches are in its environment, as is everything else.
    (remedy,) = spinning_healed(studio)
    assert (remedy.action, remedy.target, remedy.result) == (
        "restart",
        f"lmstudio:{first.root_pid}",
        "done",
    )
    (now,) = studio.running
    assert now.root_pid != first.root_pid
    assert psutil.Process(now.root_pid).cmdline() == before
    assert httpx.get(f"{studio.url}/lmstudio-greeting").json() == {"lmstudio": True}


CLIENT = """
import httpx, sys
body = {"model": sys.argv[2], "stream": True, "max_tokens": 100}
body["messages"] = [{"role": "user", "content": "x"}]
with httpx.stream("POST", sys.argv[1] + "/v1/chat/completions", json=body, timeout=60) as response:
    for line in response.iter_lines():
        print(line, flush=True)
"""


def test_spinning_while_it_answers_is_left_alone_and_the_answer_ends_whole(studio: LMStudio) -> None:
    instance = studio.start(spin="root", loaded=[MODEL], tokens_per_s=20)
    complete(instance)
    # The client is another process: what calm itself asks does not count as being served.
    argv = [sys.executable, "-c", CLIENT, studio.url, MODEL]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        first = client.stdout.readline()
        done = heal(studio)
        assert client.poll() is None, "the answer ended before the look did"
        lines = [first, *client.stdout]
    assert done.remedies == ()
    assert "data: [DONE]\n" in lines
    assert len([line for line in lines if line.startswith("data: {")]) >= 100
    assert instance.running


def test_a_model_that_is_loaded_twice_is_unloaded_once(studio: LMStudio) -> None:
    instance = studio.start(loaded=[MODEL, MODEL])
    complete(instance)
    (remedy,) = heal(studio).remedies
    assert (remedy.action, remedy.target, remedy.result) == ("unload", f"model:{MODEL}:2", "done")
    models = httpx.get(f"{studio.url}/api/v1/models").json()["models"]
    loaded = [each["id"] for model in models for each in model["loaded_instances"]]
    assert loaded == [MODEL]


def test_a_server_that_is_down_is_started_with_all_its_flags(studio: LMStudio) -> None:
    instance = studio.start()
    complete(instance)
    subprocess.run([studio.lms, "server", "stop"], env=studio.env, check=True, capture_output=True)
    (remedy,) = heal(studio).remedies
    assert (remedy.action, remedy.result) == ("start-server", "done")
    assert studio.lms_calls[-1] == [
        "server", "start", "--port", str(studio.port), "--bind", "127.0.0.1",
    ]  # fmt: skip
    assert httpx.get(f"{studio.url}/lmstudio-greeting").json() == {"lmstudio": True}


def test_a_real_leak_of_two_megabytes_a_second_is_told_from_none(studio: LMStudio) -> None:
    """The same judgement as over half an hour, on a window compressed to some seconds."""
    instance = studio.start(leak_mb_per_s=2, leak_in="worker")
    complete(instance)
    tree, before, points = settings(studio), None, []
    for _ in range(40):
        before = take(tree, window=0.1, previous=before)
        seen = trace(before)
        (size,) = seen.memory.values()
        points.append(leak.Point(at=seen.at, bytes=size, models=seen.models))
        time.sleep(0.2)
    found = leak.find(points, least_seconds=5, least_per_hour=100 * MIB)
    assert found is not None
    assert found.bytes_per_hour == pytest.approx(2 * 3600 * MIB, rel=0.3)


@pytest.mark.full
def test_watch_finds_a_real_leak_in_its_window(studio: LMStudio) -> None:
    """The rule only reports here, so that nothing ends the leak."""
    instance = studio.start(leak_mb_per_s=2, leak_in="worker")
    complete(instance)
    rule = {"window": 60, "mb_per_hour": 100, "do": "report"}
    tree = settings(studio, rules={"lmstudio-leaking": rule})
    root = Path(tree.root)
    Watch(tree, root, notice=print, tell=print, interval=1.0, pace=QUICK).run(seconds=75)
    journal = Journal(root / "journal.db", notice=print)
    found = [each for each in journal.findings(since=0) if each["rule"] == "lmstudio-leaking"]
    journal.close()
    assert len(found) == 1
    assert found[0]["evidence"]["bytes_per_hour"] == pytest.approx(2 * 3600 * MIB, rel=0.3)


def test_a_number_that_somebody_else_has_by_now_is_never_signalled(studio: LMStudio) -> None:
    first, second = studio.start(), studio.start()
    complete(second)
    evidence = {
        "root_pid": second.root_pid,
        "created_at": psutil.Process(second.root_pid).create_time() + 1.0,
        "kept": first.root_pid,
    }
    finding = Finding(rule="lmstudio-duplicated", target="x", evidence=evidence, since=0.0)
    assert Acts(settings(studio)).end(finding).result == "deferred"
    assert second.running


def test_the_commands_stop_and_start_it(studio: LMStudio) -> None:
    acts = Acts(settings(studio))
    first = studio.start(loaded=[MODEL])
    complete(first)
    assert acts.start().result == "deferred"
    assert acts.stop().result == "done"
    assert studio.running == []
    assert acts.start().result == "done"
    assert len(studio.running) == 1
