"""Values as YAML text, in the manner of the place they go to."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from io import StringIO
from typing import Any

import yaml

from calm.drift.merge import plain_same
from calm.drift.model import Json

_ENDLESS = 1_000_000
"""A line width that nothing reaches: a folded value would be a needless difference."""


class _Dumper(yaml.SafeDumper):
    """Indents a list below its key, as people write it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def flow(value: Json, style: str | None = None) -> str:
    """``value`` on one line; a string in the quotes ``style`` where these can hold it."""
    if isinstance(value, str) and style == '"':
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    dumped: str = yaml.safe_dump(
        [value], default_flow_style=True, width=_ENDLESS, allow_unicode=True, sort_keys=False
    )
    return dumped.strip()[1:-1]


def block(value: Json, indent: str) -> str:
    """``value`` in lines, each behind ``indent`` and ended by a newline."""
    dumped: str = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=False, width=_ENDLESS, allow_unicode=True, sort_keys=False
    )
    return textwrap.indent(dumped, indent)


def item(key: str, value: Json, indent: str) -> str:
    """``key: value`` in lines, each behind ``indent`` and ended by a newline."""
    return block({key: value}, indent)


def relisted(text: str, wanted: list[Json]) -> str:
    """A block list, brought to ``wanted``, with the comments, quotes and order of what stays.

    Raises ruamel.yaml.error.YAMLError where the list does not stand alone: an alias of something above it.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    lines = re.match(r"[ \t]*", text)
    indent = lines[0] if lines else ""
    trip = YAML(typ="rt")
    trip.preserve_quotes = True
    trip.width = _ENDLESS
    items = trip.load(textwrap.dedent(text))
    if not isinstance(items, list):
        raise YAMLError("no list of its own")
    for at, value in enumerate(wanted):
        _place(items, at, value)
    del items[len(wanted) :]
    out = StringIO()
    trip.dump(items, out)
    return textwrap.indent(out.getvalue(), indent)


def _place(items: Any, at: int, wanted: Json) -> None:
    """Bring the item that stands for ``wanted`` to ``at``, or put a new one there."""
    found = next((index for index in range(at, len(items)) if _stands_for(items[index], wanted)), None)
    if found is None:
        items.insert(at, wanted)
        return
    if found != at:
        items.insert(at, items.pop(found))
    _update(items, at, wanted)


def _stands_for(present: Json, wanted: Json) -> bool:
    if isinstance(present, Mapping) and isinstance(wanted, Mapping) and wanted:
        first = next(iter(wanted))
        return first in present and plain_same(present[first], wanted[first])
    return plain_same(present, wanted)


def _update(items: Any, at: int, wanted: Json) -> None:
    if not isinstance(wanted, Mapping):
        return
    present = items[at]
    for key in [key for key in present if key not in wanted]:
        del present[key]
    for key, value in wanted.items():
        if key not in present or not plain_same(present[key], value):
            present[key] = value
