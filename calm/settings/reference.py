"""The reference page and the JSON schema of the settings, generated from the models.

``python -m calm.settings.reference --write`` writes both under docs/reference/, ``--check`` says whether
they are up to date (exit 1 if not).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from calm.settings import Settings
from calm.settings.checks import PARALLEL_SLOTS, RESERVED_CONNECTIONS
from calm.settings.explain import members, plain
from calm.settings.healing import Rule
from calm.settings.schedules import DEFAULT_JOBS
from calm.settings.secrets import Secrets, SecretSource
from calm.settings.units import duration_seconds, size_bytes

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"

INTRODUCTION = """# Settings

Every setting that calm knows, with what it takes, its default and what it means. This page is generated
from the models in `calm/settings/`; `settings.schema.json` beside it is the same as a JSON schema, and
`calm settings` prints what holds on a host.

A host's settings are one mapping, `calm`, in its host data. Layers are merged key by key, the lowest
first: the defaults below, `group_data/all.py`, the host's groups, the host itself, `--data`. A list, and
anything else that is not a mapping, replaces the one below it. Give only what differs:

```python
calm = {"docker": {"redis": {"memory": "1G", "persistence": "aof"}}}
```

- A **size** is a number of bytes, or a number with `k`, `M`, `G` or `T`, 1024 based as Docker counts:
  `"512M"`, `"1.5G"`.
- A **duration** is a number of seconds, or a text with `ms`, `s`, `m`, `h`, `d`, `w`: `"30s"`, `"1h30m"`,
  `"168h"`.
- `None` as a default says in the last column what it stands for.
- An unknown key, a value of the wrong kind and values that cannot go together are refused, all at once,
  each with the file that set it.
"""

BOTH_WAYS = "the message has both ways out, in figures"

REFUSED = {
    "`memory_reserved` above `memory`": "Docker refuses it",
    "`docker.redis.maxmemory` above what its limit survives": "redis would be killed when full, or while it "
    f"saves; {BOTH_WAYS}",
    "`docker.postgres.max_connections` beyond what its limit holds": f"each client may sort; {BOTH_WAYS}",
    f"`database_pool_size` times `workers` above `max_connections` less {RESERVED_CONNECTIONS}": "the API "
    f"would be refused connections; {RESERVED_CONNECTIONS} are kept for the superuser",
    "one port for two things": "the second could not start",
    "`agent_api.image` together with `agent_api.build`": "only one can be run",
    "a fallback that was asked before": "it has just failed",
}

WARNED = f"""Said, and not refused: ports that other machines can reach, swap, the longest wait of a caller,
more requests at once than LM Studio has slots for ({PARALLEL_SLOTS} per model by default), a rotation of a
secret that the inventory gives, a variable that looks like a secret.
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    key: str
    takes: str
    default: str
    meaning: str

    def __str__(self) -> str:
        meaning = self.meaning.replace("<", "&lt;").replace("|", "\\|")
        return f"| `{self.key}` | {self.takes} | {self.default} | {meaning} |"


def page() -> str:
    """docs/reference/settings.md."""
    defaults = Settings().model_dump(mode="json", by_alias=True)
    defaults["schedules"]["jobs"] = DEFAULT_JOBS
    parts = [INTRODUCTION, _table("Top level", _leaves(Settings, defaults))]
    for name, field in Settings.model_fields.items():
        if model := _model(field.annotation):
            parts += _chapter(name, field, model, defaults[name])
    return "\n".join([*parts, _together()])


def json_schema() -> dict[str, Any]:
    """The JSON schema of the mapping ``calm``, for editors and ``calm settings --json-schema``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def stale(folder: Path = FOLDER) -> list[str]:
    """The names of generated files that are missing or differ from what the models say."""
    return [name for name, text in _files().items() if _text(folder / name) != text]


def write(folder: Path = FOLDER) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _files().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def main(arguments: Sequence[str]) -> int:
    """``--write`` or ``--check``; the exit code."""
    if arguments == ["--write"]:
        write()
    elif arguments != ["--check"]:
        print("usage: python -m calm.settings.reference --check | --write", file=sys.stderr)
        return 64
    old = stale()
    for name in old:
        print(f"docs/reference/{name} is out of date; run it with --write", file=sys.stderr)
    return 1 if old else 0


def _files() -> dict[str, str]:
    return {"settings.md": page(), "settings.schema.json": json.dumps(json_schema(), indent=2) + "\n"}


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _chapter(name: str, field: FieldInfo, model: type[BaseModel], defaults: Any) -> Iterator[str]:
    yield f"## {name}\n\n{field.description}\n"
    if own := list(_leaves(model, defaults)):
        yield _table(None, own)
    for title, section, default, text in _sections(name, model, defaults):
        yield _table(title, _rows(section, default), text)
    if model is Secrets:
        yield _table("A secret's source", _rows(SecretSource, None), _first_line(SecretSource))


def _sections(
    name: str, model: type[BaseModel], defaults: Any
) -> Iterator[tuple[str, type[BaseModel], Any, str]]:
    for attribute, field in model.model_fields.items():
        key = field.alias or attribute
        if section := _model(field.annotation):
            yield f"{name}.{key}", section, defaults[key], field.description or ""
        elif item := _item(field.annotation):
            yield f"{name}.{key}{item.suffix}", item.model, None, _first_line(item.model)


def _table(title: str | None, rows: Iterator[Row] | list[Row], text: str | None = None) -> str:
    head = [f"### {title}", ""] if title else []
    head += [text, ""] if text else []
    lines = [
        *head,
        "| key | takes | default | meaning |",
        "|---|---|---|---|",
        *(str(row) for row in rows),
        "",
    ]
    return "\n".join(lines)


def _together() -> str:
    rows = [f"| {what} | {why} |" for what, why in REFUSED.items()]
    head = ["## Values that are checked together", "", "| refused | why |", "|---|---|"]
    return "\n".join([*head, *rows, "", WARNED])


def _leaves(model: type[BaseModel], defaults: Any) -> Iterator[Row]:
    return (row for row in _rows(model, defaults, deep=False))


def _rows(model: type[BaseModel], defaults: Any, prefix: str = "", *, deep: bool = True) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        key = field.alias or name
        default = _default(field) if defaults is None else defaults[key]
        section = _model(field.annotation)
        if section and deep and issubclass(section, Rule):
            yield from _rule_rows(section, default, key, field.description or "")
        elif section and deep:
            yield from _rows(section, default, f"{prefix}{key}.")
        elif not section:
            yield _row(f"{prefix}{key}", field, default)


def _rule_rows(rule: type[BaseModel], default: Any, name: str, meaning: str) -> Iterator[Row]:
    do, *thresholds = _rows(rule, default, f"{name}.")
    yield Row(key=name, takes=do.takes, default=do.default, meaning=meaning)
    yield from thresholds


def _row(key: str, field: FieldInfo, default: Any) -> Row:
    return Row(
        key=key,
        takes=_takes(field.annotation, field.metadata),
        default="required" if field.is_required() else f"`{_written(default)}`",
        meaning=field.description or "",
    )


@dataclass(frozen=True, kw_only=True)
class Item:
    """What a list or a mapping holds many of."""

    model: type[BaseModel]
    suffix: str


def _item(annotation: Any) -> Item | None:
    for outer in plain(annotation):
        if get_origin(outer) is dict and (model := _model(get_args(outer)[1])):
            return Item(model=model, suffix=".NAME")
        if get_origin(outer) is tuple and (model := _model(get_args(outer)[0])):
            return Item(model=model, suffix="[]")
    return None


def _model(annotation: Any) -> type[BaseModel] | None:
    """The section that a field is; one that may also be None is a value and no section."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _default(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})


def _written(default: Any) -> str:
    """A default as it is written in Python, without what is None."""
    if isinstance(default, dict):
        inner = (f"{_written(key)}: {_written(value)}" for key, value in default.items() if value is not None)
        return "{" + ", ".join(inner) + "}"
    if isinstance(default, (list, tuple)):
        return "[" + ", ".join(_written(item) for item in default) + "]"
    whole = int(default) if isinstance(default, float) and default == int(default) else default
    return json.dumps(whole) if isinstance(whole, str) else repr(whole)


def _takes(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    readers = [item.func for item in metadata if isinstance(item, BeforeValidator)]
    if size_bytes in readers:
        return "size"
    if duration_seconds in readers:
        return "duration"
    return " or ".join(dict.fromkeys(kind for member in members(annotation) for kind in _kinds(member)))


def _kinds(member: Any) -> Iterator[str]:
    if get_origin(member) is Annotated:
        yield _takes(get_args(member)[0], get_args(member)[1:])
    elif get_origin(member) is Literal:
        yield from (f"`{_written(choice)}`" for choice in get_args(member))
    else:
        yield _NAMES.get(get_origin(member) or member, "mapping")


_NAMES: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "None",
    dict: "mapping",
    SecretSource: "source",
    tuple: "list",
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
