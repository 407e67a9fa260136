"""What every section of the settings has in common, and the names that reach a shell or Docker."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the settings: immutable, strict, and closed to unknown keys.

    Values are never shown by pydantic's own errors, since one of them may be a secret.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_default=True,
        hide_input_in_errors=True,
        # Nobody validates a section by itself before the whole: half the time to import the settings.
        defer_build=True,
    )


def matching(pattern: str, what: str) -> AfterValidator:
    """A validator that lets only whole matches of ``pattern`` through; ``what`` ends its sentence."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!r} is not {what}")
        return value

    return AfterValidator(check)


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f'{value!r} is not an IP address; write "127.0.0.1", or "0.0.0.0" for all') from None


def _absolute(value: str) -> str:
    _path(value)
    if not re.match(r"~(/|\\|$)|/|[A-Za-z]:[\\/]", value):
        raise ValueError(f'{value!r} is not an absolute path; start it with "/" or "~/"')
    return value


def _path(value: str) -> str:
    if not value.strip() or any(ord(char) < 32 for char in value):
        raise ValueError("a path cannot be empty or hold control characters")
    if ".." in re.split(r"[\\/]", value):
        raise ValueError(f'{value!r} must not lead upwards with ".."')
    return value


def environment_text(value: Any) -> Any:
    """Numbers and booleans as Compose hands them to a container; their text is what a program reads."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    return value


ProjectName = Annotated[
    str,
    matching(
        r"[a-z0-9][a-z0-9_-]{0,62}",
        "a project name; use small letters, digits, - and _, and begin with a letter or digit",
    ),
]
DockerName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}",
        "a name that Docker takes; use letters, digits, -, _ and ., and begin with a letter or digit",
    ),
]
ImageName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}",
        'an image; write it such as "postgres:15-alpine"',
    ),
]
Identifier = Annotated[
    str,
    matching(
        r"[A-Za-z_][A-Za-z0-9_-]{0,62}",
        "a database name; use letters, digits, _ and -, begin with a letter, 63 characters at most",
    ),
]
JobName = Annotated[
    str,
    matching(
        r"[a-z0-9][a-z0-9-]{0,47}",
        "a schedule's name; use small letters, digits and -, 48 characters at most",
    ),
]
VariableName = Annotated[
    str,
    matching(
        r"[A-Za-z_][A-Za-z0-9_]*",
        "an environment variable's name; use letters, digits and _",
    ),
]
Address = Annotated[str, AfterValidator(_address)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
PathText = Annotated[str, AfterValidator(_path)]
Port = Annotated[int, Field(ge=1, le=65535)]
Names = Annotated[tuple[DockerName, ...], Field(strict=False)]
Enabled = Literal["auto", True, False]
