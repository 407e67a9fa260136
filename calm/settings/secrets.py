"""Secrets: where they come from. No setting ever holds the value of one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from calm.settings.base import PathText, Section, VariableName
from calm.settings.problems import Problem, SettingsError

if TYPE_CHECKING:
    from calm.settings import Settings

MADE = ("postgres_password", "redis_password", "jwt_secret")
"""Secrets that calm makes on the host when nobody gives them, and can rotate."""

GIVEN = ("gemini_api_key",)
"""Secrets that only the inventory can give."""

_LOOKS_SECRET = re.compile(
    r"passw|passphrase|pass$|secret|token|credential|auth$|(api|access|private)[-_]?key|[-_]key$",
    re.IGNORECASE,
)


def looks_secret(key: str) -> bool:
    """Whether a value under this key has to be hidden, going by the key alone."""
    return bool(_LOOKS_SECRET.search(key))


class SecretSource(Section):
    """Where the controller finds a secret's value: one environment variable or one file."""

    env: VariableName | None = Field(default=None, description="Environment variable with the value.")
    file: PathText | None = Field(
        default=None, description="File with the value; a newline at its end is left out."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretSource:
        if (self.env is None) == (self.file is None):
            raise ValueError('name one source: {"env": "NAME"} or {"file": "PATH"}')
        return self


def _not_the_value(value: Any) -> Any:
    """Refuse a secret that is written down; the sentence never repeats it."""
    if value is None or isinstance(value, (Mapping, SecretSource)):
        return value
    raise ValueError('a secret is not written into settings; write {"env": "NAME"} or {"file": "PATH"}')


Secret = Annotated[SecretSource | None, BeforeValidator(_not_the_value)]
Rotation = Annotated[int, Field(ge=1)]


class Secrets(Section):
    """The secrets of a host."""

    postgres_password: Secret = Field(
        default=None,
        description="Password of the postgres role; None: taken over, else made once on the host.",
    )
    redis_password: Secret = Field(
        default=None, description="Password of redis; None: taken over, else made once on the host."
    )
    jwt_secret: Secret = Field(
        default=None,
        description="Key that signs the API's tokens; None: taken over, else made once on the host.",
    )
    gemini_api_key: Secret = Field(
        default=None, description="Key of the gemini provider; None: there is none."
    )
    rotate: dict[Literal["postgres_password", "redis_password", "jwt_secret"], Rotation] = Field(
        default_factory=dict,
        description="Rotations by secret (count): raise the number, and the next apply makes a new value.",
    )

    def given(self) -> dict[str, SecretSource]:
        """The secrets that the inventory gives, by name."""
        sources = {name: getattr(self, name) for name in (*MADE, *GIVEN)}
        return {name: source for name, source in sources.items() if source is not None}


def resolve(settings: Settings, *, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The values of the secrets that the inventory gives, read on this machine.

    Raises ``SettingsError`` with one problem for each that is missing, empty or not one line of text.
    """
    read = {
        name: _read(source, os.environ if environ is None else environ) for name, source in _sources(settings)
    }
    wrong = [
        Problem(path=f"calm.secrets.{name}", message=value.sentence)
        for name, value in read.items()
        if isinstance(value, _Missing)
    ]
    if wrong:
        raise SettingsError(wrong)
    return {name: value for name, value in read.items() if isinstance(value, str)}


class _Missing:
    def __init__(self, sentence: str) -> None:
        self.sentence = sentence


def _sources(settings: Settings) -> Iterator[tuple[str, SecretSource]]:
    yield from settings.secrets.given().items()


def _read(source: SecretSource, environ: Mapping[str, str]) -> str | _Missing:
    if source.env is not None:
        what, value = f"the environment variable {source.env}", environ.get(source.env)
        if value is None:
            return _Missing(f"{what} is not set; set it where calm runs")
    else:
        what = f"the file {source.file}"
        try:
            value = Path(str(source.file)).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            return _Missing(f"{what} cannot be read: {why}")
    return _one_line(what, value.removesuffix("\n").removesuffix("\r"))


def _one_line(what: str, value: str) -> str | _Missing:
    if not value:
        return _Missing(f"{what} is empty")
    # It becomes a line of redis.conf and of a file for postgres: a second line would be a second setting.
    return value if value.isprintable() else _Missing(f"{what} holds more than one line of printable text")
