"""The state of a host: one round trip, one answer."""

from __future__ import annotations

from typing import Any

from pyinfra.api import FactBase, FactProcessError
from pyinfra.api.command import StringCommand
from typing_extensions import override

from calm.onhost import parse

PYTHON = StringCommand(
    "if command -v python3 >/dev/null 2>&1; then exec python3 -I -S -; else "
    """echo '{"schema": 1, "error": "python3 is not installed"}'; fi"""
)
"""Runs the script that comes over stdin; a host without Python says so instead of failing without a word.

``-S``: the script needs no site-packages, and what may start with them takes longer than Python itself.
"""


class State(FactBase[dict[str, Any]]):
    """What ``calm.onhost.probe`` reads, as a mapping; ``{"error": …}`` if the host could not be read.

    Call it as ``host.get_fact(State, _stdin=Payload(script("probe", request)))``: pyinfra loses the stdin
    of a command that the fact itself returns. ``python`` is a word of the shell's.
    """

    @staticmethod
    @override
    def default() -> dict[str, Any]:
        return {"error": "the host gave no answer"}

    @override
    def command(self, python: str = "python3") -> StringCommand:
        return PYTHON if python == "python3" else StringCommand(python, "-I -S -")

    @override
    def process(self, output: list[str]) -> dict[str, Any]:
        try:
            return parse("\n".join(output))
        except ValueError as error:
            raise FactProcessError(str(error)) from error
