"""Deep-merge declared keys into JSON text that another program owns.

Only the spans of the values that differ are replaced, so unknown keys, their order, the indentation, the
number notation and the final newline stay the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from calm.drift.merge import MergeError, Same, as_path, plain_same
from calm.drift.model import Json

_SPACE = re.compile(r"[ \t\r\n]*")
_BOM = "\ufeff"

INVALID_HINT = "Mend it, or move it away and let the program that owns it write a new one; then plan again."


@dataclass(frozen=True, kw_only=True)
class _Member:
    key: str
    key_start: int
    key_end: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class _Object:
    """An object in the text: from ``{`` at ``start`` to after ``}`` at ``end``."""

    start: int
    end: int
    members: tuple[_Member, ...]


@dataclass(kw_only=True)
class _Edits:
    text: str
    same: Same
    unit: str = "  "
    ascii_only: bool = False
    spans: list[tuple[int, int, str]] = field(default_factory=list)

    def applied(self) -> str:
        out = self.text
        for start, end, new in sorted(self.spans, reverse=True):
            out = out[:start] + new + out[end:]
        return out


def merge(text: str, declared: Mapping[str, Json], *, same: Same = plain_same) -> str:
    """``text`` with ``declared`` merged in; the very same text where nothing differs.

    ``same`` says whether a value of the file counts as the declared one. Raises MergeError where the text is
    not one JSON object, or holds a key twice in an object that would be changed.
    """
    parse(text)
    start = _SPACE.match(text, 1 if text.startswith(_BOM) else 0)
    edits = _Edits(text=text, same=same, ascii_only=_escapes(text))
    root = _object(text, start.end() if start else 0)
    edits.unit = _unit(text, root)
    _merge_object(edits, root, declared, "")
    return edits.applied()


def parse(text: str) -> dict[str, Json]:
    """The object in ``text``. Raises MergeError where it is not one."""
    try:
        value = json.loads(text.removeprefix(_BOM), parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise MergeError(f"it is not valid JSON ({error})", INVALID_HINT) from None
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        raise MergeError(f"it holds {kind} where a JSON object is expected", INVALID_HINT)
    return value


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _merge_object(edits: _Edits, found: _Object, declared: Mapping[str, Json], path: str) -> None:
    members = _by_key(found, path)
    missing = {key: value for key, value in declared.items() if key not in members}
    for key, member in members.items():
        if key in declared:
            _merge_member(edits, member, declared[key], as_path(path, key))
    if missing:
        _insert(edits, found, missing)


def _merge_member(edits: _Edits, member: _Member, wanted: Json, path: str) -> None:
    if isinstance(wanted, Mapping) and edits.text[member.start] == "{":
        _merge_object(edits, _object(edits.text, member.start), wanted, path)
        return
    present = json.loads(edits.text[member.start : member.end])
    if not edits.same(present, wanted):
        indent = _own_indent(edits.text, member.key_start)
        edits.spans.append((member.start, member.end, _rendered(edits, wanted, indent)))


def _insert(edits: _Edits, found: _Object, missing: Mapping[str, Json]) -> None:
    lead, colon, comma, tail = _style(edits, found)
    indent = _indent_of(lead)
    items = [
        f"{lead}{_rendered(edits, key, None)}{colon}{_rendered(edits, value, indent)}"
        for key, value in missing.items()
    ]
    if found.members:
        at = found.members[-1].end
        edits.spans.append((at, at, "".join(f"{comma}{item}" for item in items)))
    else:
        edits.spans.append((found.start + 1, found.end - 1, comma.join(items) + tail))


def _style(edits: _Edits, found: _Object) -> tuple[str, str, str, str]:
    """How this object sets its members apart: before a key, around ``:``, the comma, before ``}``."""
    text = edits.text
    if not found.members:
        outer = _indent_before(text, found.start)
        newline = "\r\n" if "\r\n" in text else "\n"
        return f"{newline}{outer}{edits.unit}", ": ", ",", f"{newline}{outer}"
    first, last = found.members[0], found.members[-1]
    lead = text[found.start + 1 : first.key_start]
    if "\n" not in lead:
        lead = " " if len(found.members) == 1 or text[last.key_start - 1] == " " else ""
    return lead, text[first.key_end : first.start], ",", ""


def _rendered(edits: _Edits, value: Json, indent: str | None) -> str:
    """A value at ``indent``; on one line where its object stands on one line (None)."""
    if indent is None or not isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=edits.ascii_only)
    lines = json.dumps(value, ensure_ascii=edits.ascii_only, indent=edits.unit)
    return lines.replace("\n", ("\r\n" if "\r\n" in edits.text else "\n") + indent)


def _indent_before(text: str, position: int) -> str:
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _own_indent(text: str, position: int) -> str | None:
    """The indent of what begins a line at ``position``; None where something stands before it."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line if position and not line.strip() and "\n" in text[:position] else None


def _indent_of(lead: str) -> str | None:
    return lead.rpartition("\n")[2] if "\n" in lead else None


def _unit(text: str, root: _Object) -> str:
    if not root.members:
        return "  "
    lead = text[root.start + 1 : root.members[0].key_start]
    return (_indent_of(lead) or "") or "  "


def _escapes(text: str) -> bool:
    return text.isascii() and "\\u" in text


def _by_key(found: _Object, path: str) -> dict[str, _Member]:
    members = {member.key: member for member in found.members}
    if len(members) < len(found.members):
        keys = [member.key for member in found.members]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise MergeError(
            f'the key "{as_path(path, twice)}" stands in it twice', "Keep one of the two; then plan again."
        )
    return members


def _object(text: str, start: int) -> _Object:
    """The members of the object at ``start``, by the positions where json's own scanner stops."""
    decode: Callable[..., tuple[Json, int]] = json.JSONDecoder().raw_decode
    members: list[_Member] = []
    at = _after_space(text, start + 1)
    while text[at] != "}":
        key, key_end = decode(text, at)
        value_start = _after_space(text, _after_space(text, key_end) + 1)
        value_end = decode(text, value_start)[1]
        members.append(_Member(key=key, key_start=at, key_end=key_end, start=value_start, end=value_end))
        at = _after_space(text, value_end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return _Object(start=start, end=at + 1, members=tuple(members))


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
