"""Documents and baselines on the disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from calm.bench import files
from tests.unit.bench.documents import document

RUN: dict[str, Any] = {"ttft_ms": [1.0]}


def test_the_name_has_the_time_and_newer_ones_come_last(tmp_path: Path) -> None:
    path = files.default_path(tmp_path, 1_700_000_000)
    assert re.fullmatch(
        r"performance_test_20231114_\d{6}\.json|performance_test_20231115_\d{6}\.json", path.name
    )
    for moment in (1_700_000_000, 1_600_000_000):
        files.write(files.default_path(tmp_path, moment), document(runs=[RUN]))
    assert files.newest(tmp_path) == path
    assert files.find(tmp_path, "last")["schema"] == 1


def test_a_baseline_is_found_by_name_and_a_file_by_path(tmp_path: Path) -> None:
    saved = files.save(tmp_path, "before", [document(runs=[RUN] * 3)])
    assert files.find(tmp_path, "before") == files.read(saved)
    assert files.find(tmp_path, str(saved)) == files.read(saved)
    assert [name for name, _ in files.baselines(tmp_path)] == ["before"]


def test_several_files_make_one_baseline(tmp_path: Path) -> None:
    files.save(tmp_path, "b", [document(runs=[RUN]) for _ in range(3)])
    assert len(files.find(tmp_path, "b")["runs"]) == 3


@pytest.mark.parametrize("name", ["../escape", "", "a/b", ".hidden", "x" * 65])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(files.FileError, match="no name for a baseline"):
        files.save(tmp_path, name, [document(runs=[RUN] * 3)])
    assert list(tmp_path.iterdir()) == []


def test_too_few_runs_or_different_work_are_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(files.FileError, match="2 runs are too few"):
        files.save(tmp_path, "b", [document(runs=[RUN] * 2)])
    other = document(runs=[RUN] * 3, workload={"other": 1})
    with pytest.raises(files.FileError, match="different work"):
        files.save(tmp_path, "b", [document(runs=[RUN] * 3), other])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"), ("[]", "no benchmark"), ('{"schema": 1}', "no benchmark"),
        ('{"schema": 2, "fingerprint": {}}', "schema 2"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(files.FileError, match=words):
        files.read(tmp_path / "x.json")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(files.FileError, match="calm bench quick makes one"):
        files.find(tmp_path, "last")
    with pytest.raises(files.FileError, match="neither a file nor a baseline"):
        files.find(tmp_path, "before")
    assert files.history(tmp_path) == []


def test_history_leaves_out_what_is_none_and_goes_by_time(tmp_path: Path) -> None:
    for moment in (1_700_000_000, 1_600_000_000):
        files.write(files.default_path(tmp_path, moment), document(runs=[RUN]) | {"started_at": moment})
    (tmp_path / "outputs" / "performance_test_broken.json").write_text("{", encoding="utf-8")
    assert [each["started_at"] for each in files.history(tmp_path)] == [1_600_000_000, 1_700_000_000]
