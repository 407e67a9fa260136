"""Files that are read again as soon as they have changed, and only then."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from calm import jsonfile

LONG_AGO = time.time() - 1000


def write(path: Path, text: str, *, at: float | None = None) -> None:
    """A file with this text; ``at`` is the time stamp that it is given."""
    path.write_text(text, encoding="utf-8")
    if at is not None:
        os.utime(path, (at, at))


def test_what_has_just_changed_is_read_every_time(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write(file, "[1]")

    assert jsonfile.read(file) == [1]
    stamp = file.stat()
    write(file, "[2]")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    assert jsonfile.read(file) == [2]


def test_a_settled_file_is_parsed_once_until_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write(file, "[1]")
    time.sleep(jsonfile.SETTLED + 0.1)
    first = jsonfile.read(file)
    assert first == [1]
    assert jsonfile.read(file) is first

    write(file, "[2]", at=LONG_AGO)

    assert jsonfile.read(file) == [2]


def test_a_file_put_in_its_place_is_read(tmp_path: Path) -> None:
    file, other = tmp_path / "a.json", tmp_path / "b.json"
    write(file, "[1]")
    write(other, "[2]")
    time.sleep(jsonfile.SETTLED + 0.1)
    assert jsonfile.read(file) == [1]

    other.replace(file)

    assert jsonfile.read(file) == [2]


def test_what_cannot_be_read_is_said_and_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError):
        jsonfile.read(file)
    write(file, "{")
    with pytest.raises(ValueError, match="Expecting"):
        jsonfile.read(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="decode"):
        jsonfile.read(file)
    write(file, "7")

    assert jsonfile.read(file) == 7
