"""What goes to a host over stdin, in a wrapping that prints short.

pyinfra prints a fact's arguments with ``-v`` and formats them with ``str``; a script may hold a secret.
"""

from __future__ import annotations


class Payload(list[str]):
    """One script for a remote Python's stdin, of which only the size is ever printed."""

    def __init__(self, text: str) -> None:
        # pyinfra adds a line end to each item that has none.
        super().__init__([text if text.endswith("\n") else f"{text}\n"])

    def __repr__(self) -> str:
        return f"<script, {len(self[0])} characters>"
