"""``calm bench`` and ``calm llm ask`` on the command line, against servers that are well and not."""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calm.cli.exits import Exit
from calm.journal import Journal
from calm.schedules.declare import declared
from calm.settings.schedules import Schedules
from tests.integration.bench_cli import Calm
from tests.lab import paced
from tests.lab.paced import Pace, Paced

FAST = Pace(first=0.01, gap=0.001, tokens=6)
QUICK = ("bench", "quick", "--only", "llm", "--endpoint")


@pytest.fixture
def calm(tmp_path: Path) -> Calm:
    (tmp_path / "calm").mkdir()
    return Calm(root=tmp_path / "calm")


@pytest.fixture
def server() -> Iterator[Paced]:
    with paced.running(FAST) as running:
        yield running


def outputs(calm: Calm) -> list[dict[str, Any]]:
    return [json.loads(each.read_text()) for each in sorted((calm.root / "outputs").glob("*.json"))]


def test_quick_prints_what_it_writes_and_names_nobody(calm: Calm, server: Paced) -> None:
    code, document = calm.json(*QUICK, server.url())
    assert code == Exit.OK
    assert outputs(calm) == [document]
    assert (document["schema"], document["mode"], document["api"], document["machine"]) == (
        1,
        "quick",
        None,
        None,
    )
    assert (document["llm"]["requests"], document["llm"]["succeeded"], document["llm"]["errors"]) == (
        15,
        15,
        {},
    )
    for name in ("ttft_ms", "inter_token_ms", "latency_ms", "output_tokens_per_s"):
        assert set(document["llm"][name]) == {"n", "mean", "p50", "p90", "p99", "min", "max"}
    assert document["llm"]["tokens_counted_by"] == "usage"
    text = json.dumps(document)
    assert platform.node() not in text
    assert str(calm.root) not in text
    assert "안녕" not in text


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("500", "http_500"), ("garbage", "garbage"), ("error200", "error_body"), ("empty", "empty"),
        ("die", "broken_stream"), ("refused", "refused"),
    ],
)  # fmt: skip
def test_when_nothing_succeeds_the_figures_are_null_and_the_code_is_1(
    calm: Calm, server: Paced, free_port: Callable[[], int], fault: str, kind: str
) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1/chat/completions" if fault == "refused" else server.url(fault)
    done = calm(*QUICK, url)
    assert done.returncode == Exit.FAILED
    (document,) = outputs(calm)
    assert document["llm"]["errors"] == {kind: 1}
    assert document["llm"]["ttft_ms"]["mean"] is None
    assert document["llm"]["output_tokens_per_s"]["n"] == 0
    assert f"failed: {kind} 1" in done.stdout


def test_a_server_that_dies_half_way(calm: Calm, server: Paced) -> None:
    server.script = dict.fromkeys(range(9, 99), "die")
    code, document = calm.json(*QUICK, server.url())
    assert code == Exit.FAILED
    assert (document["llm"]["succeeded"], document["llm"]["errors"]) == (8, {"broken_stream": 7})
    assert document["llm"]["ttft_ms"]["n"] == 8


def test_failures_may_be_tolerated(calm: Calm, server: Paced) -> None:
    server.script = {4: "500"}
    assert calm(*QUICK, server.url(), "--tolerate", "10%").returncode == Exit.OK
    server.script = {len(server.exchanges) + 4: "500"}
    assert calm(*QUICK, server.url(), "--tolerate", "5%").returncode == Exit.FAILED


def test_time_outs_are_named(calm: Calm, server: Paced) -> None:
    server.script = {2: "endless", 3: "endless"}
    code, document = calm.json(*QUICK, server.url(), "--timeout", "0.3", "--runs", "1")
    assert code == Exit.FAILED
    assert document["llm"]["errors"] == {"timeout": 2}


def test_what_has_finished_is_in_the_journal_when_a_run_is_killed(calm: Calm, server: Paced) -> None:
    server.pace = Pace(first=0.05, gap=0.001, tokens=3)
    arguments = (*QUICK, server.url(), "--requests", "2000", "--runs", "1")
    process = calm.start(*arguments)
    try:
        deadline = time.monotonic() + 60
        while not samples(calm) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kept = samples(calm)
    assert kept
    assert all(each["part"] == "llm" and each["ttft_ms"] > 50 for each in kept)
    assert not (calm.root / "outputs").exists()


def samples(calm: Calm) -> list[dict[str, Any]]:
    path = calm.root / "journal.db"
    if not path.exists():
        return []
    journal = Journal(path, notice=lambda _: None)
    try:
        rows = journal.benches(since=0)
    finally:
        journal.close()
    return [sample for row in rows if row["mode"] == "samples" for sample in row["bench"]["samples"]]


def test_a_run_ends_in_the_journal_as_one_document(calm: Calm, server: Paced) -> None:
    _, document = calm.json(*QUICK, server.url(), "--runs", "1")
    journal = Journal(calm.root / "journal.db", notice=lambda _: None)
    try:
        modes = {row["mode"]: row["bench"] for row in journal.benches(since=0)}
        (run,) = [run for run in journal.last_runs() if run.command == "bench quick"]
    finally:
        journal.close()
    assert modes["quick"] == document
    assert len(samples(calm)) == 5
    assert run.code == Exit.OK


def test_a_slower_server_regresses_and_the_changed_setting_stands_beside_it(
    calm: Calm, server: Paced
) -> None:
    server.pace = Pace(first=0.03, gap=0.003, tokens=10)
    assert calm(*QUICK, server.url()).returncode == Exit.OK
    assert calm("bench", "baseline", "save", "before").returncode == Exit.OK
    code, listed = calm.json("bench", "baseline", "list")
    assert (code, [(each["name"], each["runs"]) for each in listed["baselines"]]) == (
        Exit.OK,
        [("before", 3)],
    )

    server.pace = Pace(first=0.06, gap=0.006, tokens=10)
    settings = {"root": str(calm.root), "llm": {"max_retries": 4}}
    (calm.root / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    picture = calm.root / "both.svg"
    assert calm(*QUICK, server.url(), "--out", str(calm.root / "after.json")).returncode == Exit.OK
    done = calm("bench", "compare", "before", str(calm.root / "after.json"), "--picture", str(picture))
    assert done.returncode == Exit.REGRESSED, done.stdout
    assert "Setting changed: llm.max_retries: 2 → 4" in done.stdout
    assert "Regressed: time to first token" in done.stdout
    assert "<svg" in picture.read_text(encoding="utf-8")

    code, back = calm.json("bench", "compare", str(calm.root / "after.json"), "before")
    assert (code, back["regressed"]) == (Exit.OK, False)
    assert calm(*QUICK, server.url(), "--concurrency", "2").returncode == Exit.OK
    refused = calm("bench", "compare", "before", "last")
    assert refused.returncode == Exit.FAILED
    assert "did different work" in refused.stderr


def test_full_samples_the_machine_beside_the_rest_and_continuous_alone(calm: Calm, server: Paced) -> None:
    code, document = calm.json(
        "bench", "full", "--only", "llm", "--endpoint", server.url(), "--duration", "1"
    )
    assert code == Exit.OK
    assert document["llm"]["succeeded"] == 15
    assert document["machine"]["cpu_percent"]["n"] >= 1
    assert document["seconds"] >= 1
    code, document = calm.json("bench", "continuous", "--duration", "1")
    assert code == Exit.OK
    assert (document["llm"], document["api"]) == (None, None)
    assert document["machine"]["processes"]["mean"] > 1


def test_the_agent_api_is_asked_for_health_and_what_it_says_counts(calm: Calm, server: Paced) -> None:
    # The paced server has no such path: like LM Studio it answers with status 200 and an error.
    base = f"http://127.0.0.1:{server.port}"
    code, document = calm.json("bench", "quick", "--only", "api", "--api-url", base)
    assert code == Exit.FAILED
    assert document["api"]["errors"] == {"error_body": 15}
    assert document["llm"] is None


def test_nothing_to_measure_is_said(calm: Calm) -> None:
    settings = {"root": str(calm.root), "docker": {"enabled": False}, "lmstudio": {"enabled": False}}
    (calm.root / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    done = calm("bench", "quick")
    assert done.returncode == Exit.FAILED
    assert "there is nothing to measure" in done.stderr


def weekly(calm: Calm, **llm: str) -> tuple[int, dict[str, Any]]:
    """The weekly job's own command, cut short; its code, and what of it is in the journal by mode."""
    host = {"docker": {"enabled": False}, "lmstudio": {"enabled": False}}
    settings, file = {"root": str(calm.root), **host, "llm": llm}, calm.root / "settings.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    wanted = Schedules.model_validate({"jobs": {}})
    (job,) = [
        each
        for each in declared(wanted, calm=("calm",), settings_file=str(file))
        if each.name == "performance-test"
    ]
    code = calm(*job.command[1:], "--duration", "1").returncode
    journal = Journal(calm.root / "journal.db", notice=lambda _: None)
    try:
        modes = {row["mode"]: row["bench"] for row in journal.benches(since=0)}
        (run,) = [run for run in journal.last_runs() if run.command == "bench full"]
    finally:
        journal.close()
    assert run.code == code
    return code, modes


def test_the_weekly_run_is_in_the_journal(calm: Calm, server: Paced) -> None:
    code, modes = weekly(calm, endpoint=server.url())
    assert code == Exit.OK
    assert modes["full"] == outputs(calm)[0]
    assert modes["full"]["llm"]["succeeded"] == 15
    assert {each["part"] for each in modes["samples"]["samples"]} <= {"llm", "machine"}


def test_where_there_is_nothing_else_the_weekly_run_measures_the_machine(calm: Calm) -> None:
    code, modes = weekly(calm)
    assert code == Exit.OK
    assert (modes["full"]["llm"], modes["full"]["api"]) == (None, None)
    assert modes["full"]["machine"]["processes"]["n"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("quick", "--limit", "speed=1"), ("quick", "--timeout", "0"), ("quick", "--prompts", "/nowhere"),
        ("quick", "--endpoint", "gpu:1234"),
        ("compare", "a", "b", "--threshold", "much"), ("picture", "x.svg", "--metric", "x"),
    ],
)  # fmt: skip
def test_wrong_use_is_64(calm: Calm, arguments: tuple[str, ...]) -> None:
    assert calm("bench", *arguments).returncode == Exit.USAGE


def app_yaml(calm: Calm, server: Paced, *faults: str) -> None:
    entries = [
        {"provider": f"p{at}", "model": "m", "endpoint": server.url(fault)} for at, fault in enumerate(faults)
    ]
    first, *others = entries
    document = {
        "llm": {**first, "request_timeout": 2, "max_retries": 1, "retry_backoff_ms": 10, "fallbacks": others}
    }
    (calm.root / "app.yaml").write_text(json.dumps(document), encoding="utf-8")


def test_ask_says_who_answered_and_why_the_others_did_not(calm: Calm, server: Paced) -> None:
    app_yaml(calm, server, "500", "error200", "")
    done = calm("llm", "ask", "안녕하세요")
    assert done.returncode == Exit.OK
    assert done.stdout.strip() == "차분한 기계는 제 속도로 답하고 쉽니다."
    assert "p0 did not answer: it answered with status 500" in done.stderr
    assert "p1 did not answer: it answered with an error: Unexpected endpoint" in done.stderr
    assert "p2 (m) answered" in done.stderr
    assert "stamina" not in done.stderr


def test_ask_when_nobody_answers(calm: Calm, server: Paced) -> None:
    app_yaml(calm, server, "500", "die")
    code, document = calm.json("llm", "ask", "hello")
    assert code == Exit.FAILED
    assert document["text"] is None
    assert [(each["kind"], each["attempts"]) for each in document["tried"]] == [
        ("http_500", 2),
        ("broken_stream", 1),
    ]
    (calm.root / "app.yaml").write_text("llm: {enabled: false}", encoding="utf-8")
    assert calm("llm", "ask", "hello").returncode == Exit.INVALID
