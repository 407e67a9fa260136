"""The bundle: what travels, what shows, what comes back."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from calm.onhost import parse, script
from tests.unit.onhost.pushed import KEY, effect, probe, push, python, statuses

FOLDER = Path(__file__).parents[3] / "calm" / "onhost"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_every_module_can_be_read_by_the_oldest_python(path: Path) -> None:
    assert ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_argv_and_environment_hold_nothing(tmp_path: Path) -> None:
    """As a command that the script starts sees its parent."""
    look = f"cat /proc/$PPID/cmdline > {tmp_path}/argv; cat /proc/$PPID/environ > {tmp_path}/environ"
    secret = {"do": "secret", "name": "jwt_secret", "value": "s3cret-1"}
    results = effect(tmp_path, secret, {"do": "run", "argv": ["sh", "-c", look], "stdin": "s3cret-1"})
    assert statuses(results) == ["done", "done"]
    assert (tmp_path / "argv").read_bytes().split(b"\0")[1:] == [b"-I", b"-", b""]
    assert b"s3cret-1" not in (tmp_path / "environ").read_bytes()


def test_what_runs_here_says_the_same_and_takes_nothing_along(tmp_path: Path) -> None:
    request = {"schema": 1, "root": str(tmp_path), "digest_key": KEY, "documents": {"one": {"path": "x"}}}
    text = script("probe", request, here=True)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-"], input=text, capture_output=True, text=True, check=True
    )
    answer, pushed = parse(done.stdout), probe(tmp_path, documents={"one": {"path": "x"}})
    assert len(text) < 1000
    assert answer.keys() == pushed.keys()
    assert answer["files"] == pushed["files"]


def test_any_request_arrives_as_it_is(tmp_path: Path) -> None:
    odd = '\'"""\\n\n\r\0\u2028é{}%s\U0001f600'
    answer = probe(tmp_path, documents={odd: {"path": "x"}})
    assert list(answer["files"]) == [odd]


def test_a_python_that_is_too_old_is_told_so(tmp_path: Path) -> None:
    text = script("probe", {"root": str(tmp_path)}).replace(
        "import sys\n", "import sys; sys.version_info = (3, 6, 1)\n", 1
    )
    done = subprocess.run([python(), "-I", "-"], input=text, capture_output=True, text=True, check=True)
    assert parse(done.stdout)["error"] == "Python 3.9 or newer is needed there, and python3 is 3.6"


def test_an_error_inside_the_probe_is_an_answer_without_a_traceback() -> None:
    done = push("probe", {"schema": 1, "digest_key": KEY})
    assert done.stderr == ""
    assert parse(done.stdout)["error"].startswith("the probe failed (KeyError at calm/onhost/probe.py:")


def test_parse_takes_the_answer_after_a_greeting() -> None:
    assert parse('Welcome!\n{"schema": 1, "a": 2}\n') == {"schema": 1, "a": 2}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "gave no answer, but: nothing"),
        ("bash: python3: command not found", "command not found"),
        ('{"schema": 1, "a"', "cut off"),
        ('{"schema": 2}', "another version"),
    ],
)
def test_parse_says_what_is_wrong(output: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(output)


def test_no_script_of_another_name() -> None:
    with pytest.raises(ValueError, match="no such script"):
        script("shell", {})


def test_the_probe_carries_nothing_that_writes() -> None:
    text = script("probe", {"root": "x"})
    assert "calm.onhost.file_effects" not in text
    assert json.dumps("x") in text
