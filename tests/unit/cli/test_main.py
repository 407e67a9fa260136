"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

from calm.cli.exits import Exit
from calm.cli.main import calm, run


@pytest.mark.parametrize(
    "arguments", [["plna"], ["plan", "--jsno"], ["heal", "--ony", "docker"], ["nothing"]]
)
def test_wrong_use_is_64_and_no_traceback(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == Exit.USAGE
    assert "Traceback" not in capsys.readouterr().err


def test_a_misspelt_command_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    run(["chek"])
    assert "Did you mean 'check'?" in capsys.readouterr().err


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    import click

    for name in calm.list_commands(click.Context(calm)):
        assert run([name, "--help"]) == Exit.OK
        assert "Example" in capsys.readouterr().out, name


def test_looking_at_this_host_does_not_load_what_only_plan_needs() -> None:
    code = (
        "import sys; import calm.cli.main; import calm.cli.host; "
        "print([name for name in ('pyinfra', 'jinja2', 'gevent', 'paramiko') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
