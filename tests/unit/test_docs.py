"""What the docs promise is there: linked files, commands and their options, and a Korean page for each."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from calm.cli.main import calm

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted([*CHECKOUT.glob("README*.md"), *(CHECKOUT / "docs").rglob("*.md")])

_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\|", re.MULTILINE)
_END = {"|", "||", "&&", ";", ">", ">>", "2>", "2>&1", "&"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = [link for link in _links(page) if not _leads_somewhere(page, link)]

    assert not lost


def test_every_command_in_a_block_exists_with_its_options() -> None:
    commands = [(page, line) for page in PAGES for line in _commands(page)]

    assert len(commands) > 40
    wrong = [f"{page.name}: {line}: {why}" for page, line in commands if (why := _wrong(line))]
    assert not wrong


def test_every_command_in_the_table_of_the_readme_exists() -> None:
    named = re.findall(r"`(calm [a-z][^`]*)`", (CHECKOUT / "README.md").read_text(encoding="utf-8"))

    assert len(named) > 20
    assert not [line for line in named if _wrong(line.replace("[", " ").replace("]", " "))]


def test_every_command_is_in_the_table_of_the_readme() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")

    assert not [name for name in calm.list_commands(_context(calm)) if f"`calm {name}" not in text]


@pytest.mark.parametrize("pattern", [_HEADING, _ROW, _FENCED], ids=["headings", "rows", "blocks"])
@pytest.mark.parametrize("page", ["README.md", "docs/differences.md"])
def test_the_korean_page_has_as_many(page: str, pattern: re.Pattern[str]) -> None:
    english, korean = CHECKOUT / page, CHECKOUT / page.replace(".md", ".ko.md")

    assert _count(pattern, english) == _count(pattern, korean)


def test_the_korean_readme_shows_the_same_run() -> None:
    english, korean = (_blocks(CHECKOUT / name, "text") for name in ("README.md", "README.ko.md"))

    assert english
    assert english == korean


def test_every_rule_is_explained() -> None:
    from calm.settings.healing import RULES

    text = (CHECKOUT / "docs/explanation/healing.md").read_text(encoding="utf-8")

    assert not [rule for rule in RULES if f"`{rule}`" not in text]


def test_every_effect_is_in_the_protocol() -> None:
    from calm.onhost.effect import EFFECTS, FOREIGN

    text = (CHECKOUT / "docs/reference/protocol.md").read_text(encoding="utf-8")

    assert not [name for name in (*EFFECTS, *FOREIGN) if f"`{name}`" not in text]


def test_the_example_of_a_fleet_is_valid() -> None:
    # In a process of its own: pyinfra changes the standard library of the one that it is imported into.
    argv = [str(Path(sys.executable).parent / "calm"), "validate", "inventories/fleet.py"]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (0, "The settings of 4 hosts are valid.\n"), done.stderr


def _links(page: Path) -> list[str]:
    return _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))


def _leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    aim = (page.parent / name).resolve() if name else page
    if not aim.exists() or not aim.is_relative_to(CHECKOUT):
        return False
    return not anchor or anchor in {_anchor(found) for found in _HEADING.findall(aim.read_text("utf-8"))}


def _anchor(heading: str) -> str:
    """As the usual renderers make it: small letters, no punctuation, hyphens for blanks."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _blocks(page: Path, *languages: str) -> list[str]:
    found = _FENCED.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def _commands(page: Path) -> Iterator[str]:
    """Every line of a shell block that calls calm; with or without a prompt, or a path before it."""
    for block in _blocks(page, "sh", "console", "bash", "text"):
        for line in block.splitlines():
            bare = line.removeprefix("$ ").strip().removeprefix(".venv/bin/")
            if re.match(r"calm [a-z]", bare):
                yield bare


def _count(pattern: re.Pattern[str], page: Path) -> int:
    return len(pattern.findall(page.read_text(encoding="utf-8")))


def _wrong(line: str) -> str | None:
    """Why a line is no command of calm's; ``None`` if it is one."""
    words = _words(line)
    command: click.Command = calm
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(_context(command), name)
        if found is None:
            return f"there is no {name}"
        command = found
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    return f"there is no {' '.join(unknown)}" if unknown else None


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)[1:]
    end = next((index for index, word in enumerate(words) if word in _END), len(words))
    return words[:end]


def _context(command: click.Command) -> click.Context:
    return click.Context(command)
