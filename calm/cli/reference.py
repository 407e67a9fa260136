"""Writes docs/reference/commands.md from the commands themselves.

python -m calm.cli.reference --write | --check
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from calm.cli.main import calm

PAGE = Path("docs/reference/commands.md")

_HEAD = """# Commands

This page is made from `calm --help` by `python -m calm.cli.reference --write`.

INVENTORY is a file; without one it is `inventories/local.py`, this machine. Data goes to standard output,
messages to standard error. With `--json` standard output is one JSON document. No command asks anything
where there is no terminal: `apply`, `rollback`, `remove` and `unlock` then need `--yes`.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *(_section(name, command) for name, command in _commands())])


def main(arguments: list[str]) -> int:
    """Write the page, or say whether it is as it should be: 0 or 1."""
    if arguments == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    sys.stderr.write(f"{PAGE} is out of date: python -m calm.cli.reference --write\n")
    return 1


def _commands() -> Iterator[tuple[str, click.Command]]:
    root = click.Context(calm, info_name="calm")
    for name in calm.list_commands(root):
        command = calm.get_command(root, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", child) for inner, child in sorted(command.commands.items()))


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"calm {name}", max_content_width=96, terminal_width=96)
    return f"## calm {name}\n\n```\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
