"""An error that ends a command: what happened, what to do, and the exit code."""

from __future__ import annotations

from typing import IO, Any

import click

from calm.cli.exits import Exit


class CommandError(click.ClickException):
    """Ends the command with ``code``, and prints ``message`` and ``hint`` as they are."""

    def __init__(self, message: str, *, code: Exit = Exit.FAILED, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n  {hint}")
        self.code = code

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"calm: {self.format_message()}", err=file is None, file=file)
