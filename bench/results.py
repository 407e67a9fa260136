"""The results in bench/README.md: each between markers of its own, with the command that made them."""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import psutil

README = Path(__file__).with_name("README.md")


def main(name: str, about: str | None, measure: Callable[[], str], *, arguments: Sequence[str] = ()) -> None:
    """Measure, print, and with ``--write`` put the result into bench/README.md.

    ``arguments`` are those that the benchmark has taken for itself, to be named beside the result.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=about)
    parser.add_argument("--write", action="store_true", help="put the result into bench/README.md")
    write = parser.parse_args().write
    text = measure()
    print(text)
    if write:
        put(name, text, (name, *arguments))


def put(name: str, text: str, command: Sequence[str]) -> None:
    """Replace the result ``name`` in bench/README.md; ``command`` is what made it, beside ``--write``."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    made = f"`python -m bench.{' '.join(command)}`, {date.today().isoformat()}, {machine()}:"
    whole = README.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(whole):
        raise ValueError(f"bench/README.md has no place for {name}")
    README.write_text(pattern.sub(lambda _: f"{begin}\n{made}\n\n{text}\n{end}", whole), encoding="utf-8")


def machine() -> str:
    """What the figures depend on, without names."""
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return (
        f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}{load}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    rule = [("-" * width if column == 0 else "-" * (width - 1) + ":") for column, width in enumerate(widths)]
    return "\n".join(_row(row, widths) for row in [head, rule, *rows])


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    figures = [cell.rjust(width) for cell, width in others]
    return f"| {' | '.join([first[0].ljust(first[1]), *figures])} |"
