"""One host's trouble is its own: the others are planned and applied all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.operations.fleet import EFFECT, PROBE, bare, calm, results


def rows(out: str) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(out)["hosts"]}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"schema": 1, "error": "python3 is not installed"}', "python3"),
        ("garbage", "answer"),
        ({"success": False, "stderr": "sh: cannot fork"}, "answer"),
        ("", "answer"),
        ('{"schema": 99}', "answer"),
    ],
)
def test_a_host_that_cannot_be_read_stops_no_other(tmp_path: Path, answer: Any, words: str) -> None:
    ran = calm(tmp_path, {"a": {PROBE: bare()}, "b": {PROBE: answer}}, "plan", "--json")
    assert ran.code == 1, ran.err
    found = rows(ran.out)
    assert found["@fake/a"]["status"] == "drifted"
    assert found["@fake/b"]["status"] == "failed"
    assert words in found["@fake/b"]["error"]["message"]
    assert "Traceback" not in ran.err


def test_a_plan_sends_one_command_and_no_effect(tmp_path: Path) -> None:
    broken = {"success": False, "stderr": "an effect in a plan"}
    ran = calm(tmp_path, {"a": {PROBE: bare(), EFFECT: broken}}, "plan", "--json")
    assert ran.code == 2, ran.err
    assert rows(ran.out)["@fake/a"]["resources"]


def test_a_locked_host_is_left_alone_and_named(tmp_path: Path) -> None:
    held = {"success": False, "stderr": "locked by ada@desk pid 7 since 12 s"}
    ran = calm(
        tmp_path,
        {"a": {PROBE: bare(), EFFECT: held}},
        *("apply", "--yes", "--json"),
    )
    assert ran.code == 1, ran.err
    error = rows(ran.out)["@fake/a"]["error"]
    assert "locked by ada@desk" in error["message"]
    assert error["hint"] == "Nothing was changed there."


def test_an_effect_that_fails_is_a_failure_whatever_else_worked(tmp_path: Path) -> None:
    """Both hosts answer the same to the second look, so that what was changed is still seen as pending."""
    ran = calm(
        tmp_path,
        {"a": {PROBE: bare(), EFFECT: results("done")}},
        *("apply", "--yes", "--json"),
    )
    assert ran.code == 1, ran.err
    row = rows(ran.out)["@fake/a"]
    assert row["status"] == "failed"
    assert "Still different after apply" in row["error"]["message"]


def test_a_root_that_is_a_file_is_told_before_anything_runs(tmp_path: Path) -> None:
    root = {"path": "/home/ada/calm", "status": "file", "disk_free_bytes": 1}
    ran = calm(tmp_path, {"a": {PROBE: bare(root=root)}}, "plan")
    assert ran.code == 1
    assert "/home/ada/calm is a file" in ran.out


def test_a_mistake_of_calms_own_over_one_host_is_that_hosts_alone(tmp_path: Path) -> None:
    """The probe of another version could leave something out that comparing counts on."""
    ran = calm(tmp_path, {"a": {PROBE: bare()}, "b": {PROBE: bare(files={})}}, "plan", "--json")
    assert ran.code == 1, ran.err
    found = rows(ran.out)
    assert found["@fake/a"]["status"] == "drifted"
    assert found["@fake/b"]["error"]["code"] == "bug"
    assert "Traceback" not in ran.err
