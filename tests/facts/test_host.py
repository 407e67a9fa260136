"""What comes back from a host's scripts, and what of it is believed."""

from __future__ import annotations

import pytest
from pyinfra.api import FactProcessError

from facts.health import Health
from facts.host import State


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['{"schema": 1, "files": {}}'], {"schema": 1, "files": {}}),
        (["Welcome to gpu-1", '{"schema": 1, "files": {}}'], {"schema": 1, "files": {}}),
        (
            ['{"schema": 1, "error": "python3 is not installed"}'],
            {"schema": 1, "error": "python3 is not installed"},
        ),
    ],
)
def test_an_answer_is_taken_from_its_line(lines: list[str], expected: dict[str, object]) -> None:
    assert State().process(lines) == expected


@pytest.mark.parametrize("lines", [["nothing like it"], ['{"schema": 1, "fil'], ['{"schema": 99}'], ["{}"]])
def test_what_is_no_answer_fails_the_host(lines: list[str]) -> None:
    with pytest.raises(FactProcessError):
        State().process(lines)


def test_no_answer_at_all_is_an_error_and_not_an_empty_host() -> None:
    assert State.default()["error"]


def test_a_host_without_python_says_so() -> None:
    assert "python3 is not installed" in str(State().command())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["noise", '{"schema": 1, "host": "gpu-1"}'], {"schema": 1, "host": "gpu-1"}),
        (["calm: no such command"], {}),
        (["[]"], {}),
    ],
)
def test_a_snapshot_is_the_agents_own(lines: list[str], expected: dict[str, object]) -> None:
    assert Health().process(lines) == expected
    assert Health.default() == {}


def test_a_root_with_a_quote_in_it_stays_one_word() -> None:
    command = str(Health().command(root="/srv/o'brien"))
    assert """'/srv/o'"'"'brien/agent/venv/bin/calm'""" in command
