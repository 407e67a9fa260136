"""What is wrong with settings, one line per problem."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong, where it stands and who set it.

    ``path`` is dotted and begins with ``calm``; ``source`` names the file or option, empty if nobody set it.
    """

    path: str
    message: str
    source: str = ""
    suggestion: str | None = None

    def __str__(self) -> str:
        where = f"{self.source}: {self.path}" if self.source else self.path
        hint = f' (did you mean "{self.suggestion}"?)' if self.suggestion else ""
        return f"{where}: {self.message}{hint}"


class SettingsError(Exception):
    """Settings that cannot be used; ``problems`` has all of them, never only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
