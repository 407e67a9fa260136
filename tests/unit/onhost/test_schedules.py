"""What schedulers print, read."""

from __future__ import annotations

import subprocess
import sys

import pytest

from calm.onhost.schedules import read, seconds, span_seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1h 2min 3.5s", 3723.5),
        ("5min", 300),
        ("2d 3h", 183600),
        ("1w 1d", 691200),
        ("200ms", 0.2),
        ("infinity", None),
        ("", None),
        ("3month 2s", None),
        (None, None),
    ],
)
def test_spans(text: str | None, value: float | None) -> None:
    assert span_seconds(text) == (pytest.approx(value) if value is not None else None)


@pytest.mark.parametrize(
    ("text", "value"),
    [("Wed 2025-11-26 14:56:40 UTC", 1764169000.0), ("", None), ("n/a", None), ("Sun 2026", None)],
)
def test_stamps(text: str, value: float | None) -> None:
    assert seconds(text) == value


def test_this_machine_can_be_read_whatever_it_has() -> None:
    answer = read({"prefix": "calm-test-none-", "names": []})
    assert set(answer) == {"backend_facts", "units", "user_units", "crontab", "plists", "tasks", "runs"}
    assert answer["backend_facts"]["unit_folders"]["system"] == "/etc/systemd/system"
    assert answer["units"] == answer["plists"] == {}


def test_reading_needs_nothing_that_only_posix_has() -> None:
    blocked = "import sys; sys.modules.update(dict.fromkeys(('pwd', 'grp', 'fcntl', 'termios', 'resource')));"
    done = subprocess.run([sys.executable, "-c", blocked + "import calm.onhost.schedules"], check=False)
    assert done.returncode == 0
