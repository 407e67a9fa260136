"""Merge declared keys into one section of YAML text that another program owns.

PyYAML's marks say where each value stands, so only what differs is replaced; a list is brought up to date by
ruamel.yaml, whose round trip keeps its comments. A round trip of the whole file would re-indent and fold
lines that are not ours. The result is parsed again: unless the rest is the same bytes and means the same, and
the section means the old one plus ours, the file is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

from calm.drift import yaml_text
from calm.drift.merge import MergeError, Same, as_path, joined, plain_same
from calm.drift.model import Json

_COMMENT = re.compile(r"(^|\s)#", re.MULTILINE)
_COMMENT_OR_END = re.compile(r"[ \t]*(#[^\r\n]*)?")
_STR = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"

INVALID_HINT = "Mend the file, or move it away and let calm write a new one; then plan again."


class _Lenient(yaml.SafeLoader):
    """Constructs plain values; a tag that only the file's owner knows becomes a pair of tag and value."""


def _of_tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Json:
    if isinstance(node, yaml.MappingNode):
        return [suffix, loader.construct_mapping(node, deep=True)]
    if isinstance(node, yaml.SequenceNode):
        return [suffix, loader.construct_sequence(node, deep=True)]
    return [suffix, node.value]


def _as_written(_: yaml.SafeLoader, node: yaml.Node) -> Json:
    return node.value


_Lenient.add_multi_constructor("", _of_tag)
_Lenient.add_constructor("tag:yaml.org,2002:timestamp", _as_written)


@dataclass(kw_only=True)
class _Edits:
    text: str
    same: Same
    newline: str
    spans: list[tuple[int, int, str]] = field(default_factory=list)

    def put(self, start: int, end: int, new: str) -> None:
        self.spans.append((start, end, new.replace("\n", self.newline)))

    def applied(self) -> str:
        out = self.text
        for start, end, new in sorted(self.spans, reverse=True):
            out = out[:start] + new + out[end:]
        return out


def section(text: str, name: str) -> dict[str, Json]:
    """What the top-level key ``name`` holds; empty where it is missing or null. Raises MergeError."""
    node = _section_node(_root(text), name)
    return {} if node is None or _is_null(node) else _mapping(node, name)


def merge(text: str, declared: Mapping[str, Json], *, same: Same = plain_same) -> str:
    """``text`` with ``declared``, one top-level key and its mapping, merged in.

    It is the same text where nothing differs. Raises MergeError where the text is not one YAML document with
    a mapping at its top, holds a key of ours twice, or has our section entangled with what is not ours.
    """
    ((name, wanted),) = declared.items()
    root = _root(text)
    edits = _Edits(text=text, same=same, newline="\r\n" if "\r\n" in text else "\n")
    _merge_root(edits, root, name, wanted)
    merged = edits.applied()
    if merged != text:
        _prove(edits, merged, name, wanted)
    return merged


def _root(text: str) -> yaml.MappingNode | None:
    """The mapping at the top; None for a text without a value.

    Parsed once for all hosts that have the same text. But what a ``<<`` (or its tag) brings in is put into
    the nodes when their values are made, so that such a text is parsed anew each time.
    """
    return _parsed(text) if "<<" in text or "!" in text else _kept(text)


def _parsed(text: str) -> yaml.MappingNode | None:
    try:
        nodes = list(yaml.compose_all(text, _Lenient))
    except (yaml.YAMLError, RecursionError) as error:
        raise MergeError(f"it is not valid YAML ({_where(error)})", INVALID_HINT) from None
    if len(nodes) > 1:
        raise MergeError(f"it holds {len(nodes)} YAML documents", "Keep one document in it; then plan again.")
    if not nodes or _is_null(nodes[0]):
        return None
    if not isinstance(nodes[0], yaml.MappingNode):
        kind = "a list" if isinstance(nodes[0], yaml.SequenceNode) else "a single value"
        raise MergeError(f"it holds {kind} at its top where sections are expected", INVALID_HINT)
    return nodes[0]


_kept = lru_cache(maxsize=64)(_parsed)


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be read"
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


def _section_node(root: yaml.MappingNode | None, name: str) -> yaml.Node | None:
    found = [value for key, value in (root.value if root else []) if key.tag == _STR and key.value == name]
    if len(found) > 1:
        raise MergeError(f'the section "{name}" stands in it twice', "Keep one of the two; then plan again.")
    return found[0] if found else None


def _mapping(node: yaml.Node, name: str) -> dict[str, Json]:
    value = _plain(node)
    if not isinstance(node, yaml.MappingNode) or not isinstance(value, dict):
        raise MergeError(
            f'its section "{name}" is not a mapping', f'Write "{name}" as keys with values; then plan again.'
        )
    return value


def _plain(node: yaml.Node) -> Json:
    loader = _Lenient("")
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise MergeError(f"it is not valid YAML ({_where(error)})", INVALID_HINT) from None
    finally:
        loader.dispose()


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _merge_root(edits: _Edits, root: yaml.MappingNode | None, name: str, wanted: Mapping[str, Json]) -> None:
    node = _section_node(root, name)
    if root is None:
        _append(edits, len(edits.text), yaml_text.item(name, wanted, ""))
    elif node is None:
        _insert(edits, root, {name: wanted}, end=root.end_mark.index)
    elif _is_null(node):
        key = next(key for key, value in root.value if value is node)
        _replace(edits, root, key, node, wanted)
    else:
        _merge_mapping(edits, node, section(edits.text, name), wanted, name)


def _merge_mapping(
    edits: _Edits, node: Any, present: Mapping[str, Json], wanted: Mapping[str, Json], path: str
) -> None:
    """Merge into the mapping at ``node``; ``present`` is what it means, keys from a ``<<`` included."""
    pairs = _pairs(node, path)
    missing: dict[str, Json] = {}
    for key, value in wanted.items():
        if key in pairs:
            _merge_pair(edits, node, pairs[key], present[key], value, as_path(path, key))
        elif key not in present or not edits.same(present[key], value):
            missing[key] = value
    if missing:
        _insert(edits, node, missing, end=_end(edits.text, *node.value[-1]) if node.value else None)


def _pairs(node: yaml.MappingNode, path: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else None
        if name in pairs:
            where = as_path(path, str(name))
            raise MergeError(f'the key "{where}" stands in it twice', "Keep one of the two; then plan again.")
        if name is not None:
            pairs[name] = (key, value)
    return pairs


def _merge_pair(
    edits: _Edits, parent: Any, pair: tuple[yaml.Node, yaml.Node], present: Json, wanted: Json, path: str
) -> None:
    key, node = pair
    if isinstance(wanted, Mapping) and isinstance(present, Mapping):
        _merge_mapping(edits, node, present, wanted, path)
    elif not edits.same(present, wanted):
        if not _is_below(key, node):
            raise MergeError(
                f'the value of "{path}" is an alias of a value elsewhere in the file',
                f'Write the value of "{path}" out in its place; then plan again.',
            )
        _replace(edits, parent, key, node, wanted)


def _is_below(key: yaml.Node, node: yaml.Node) -> bool:
    """Whether the node stands behind its key; that of an alias stands where its anchor is."""
    return bool(node.start_mark.index >= key.end_mark.index)


def _replace(edits: _Edits, parent: Any, key: Any, node: Any, wanted: Json) -> None:
    """Put ``wanted`` in the place of ``node``."""
    text = edits.text
    end = _end(text, key, node)
    is_list = isinstance(wanted, list) and bool(wanted)
    if is_list and isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
        _replace_list(edits, node, end, wanted)
        return
    _no_comment_inside(text[node.start_mark.index : end], node)
    stays_flow = isinstance(node, yaml.CollectionNode) and node.flow_style
    if not isinstance(wanted, Mapping | list) or not wanted or parent.flow_style or stays_flow:
        _replace_inline(edits, key, node, end, wanted)
        return
    edits.put(_colon(text, key), end, "")
    indent = " " * (key.start_mark.column + 2)
    _append(edits, _next_line(text, end), yaml_text.block(wanted, indent))


def _replace_inline(edits: _Edits, key: yaml.Node, node: Any, end: int, wanted: Json) -> None:
    is_block = isinstance(node, yaml.CollectionNode) and not node.flow_style
    if is_block or node.start_mark.index == node.end_mark.index:
        edits.put(_colon(edits.text, key), end, f" {yaml_text.flow(wanted)}")
    else:
        edits.put(node.start_mark.index, end, yaml_text.flow(wanted, getattr(node, "style", None)))


def _replace_list(edits: _Edits, node: Any, end: int, wanted: list[Json]) -> None:
    """Bring the lines of a block list up to date, a comment behind its last item included."""
    from ruamel.yaml.error import YAMLError

    start = edits.text.rfind("\n", 0, node.start_mark.index) + 1
    line = _COMMENT_OR_END.match(edits.text, end)
    end = line.end() if line else end
    try:
        new = yaml_text.relisted(edits.text[start:end].replace("\r\n", "\n"), wanted)
    except YAMLError:
        raise MergeError(
            "a list that has to change uses an alias of something elsewhere in the file",
            "Write the list out in its place; then plan again.",
        ) from None
    edits.put(start, end, new.rstrip("\n"))


def _no_comment_inside(replaced: str, node: yaml.Node) -> None:
    if isinstance(node, yaml.CollectionNode) and _COMMENT.search(replaced):
        raise MergeError(
            "a value that has to change holds comments that would be lost",
            "Move the comments above the key; then plan again.",
        )


def _insert(edits: _Edits, node: Any, missing: Mapping[str, Json], *, end: int | None) -> None:
    """Put new keys behind the last one, which ends at ``end``."""
    text = edits.text
    if node.flow_style:
        at = node.end_mark.index - 1 if end is None or node.value == [] else _end(text, *node.value[-1])
        new = ", ".join(f"{yaml_text.flow(key)}: {yaml_text.flow(value)}" for key, value in missing.items())
        edits.put(at, at, f", {new}" if node.value else new)
        return
    indent = " " * node.value[0][0].start_mark.column
    at = len(text) if end is None else end
    lines = "".join(yaml_text.item(key, value, indent) for key, value in missing.items())
    _append(edits, _next_line(text, at), lines)


def _append(edits: _Edits, at: int, lines: str) -> None:
    """Put whole lines at ``at``, the start of a line or the end of the text."""
    before = edits.text[:at]
    missing_newline = before.removeprefix("\ufeff") != "" and not before.endswith("\n")
    edits.put(at, at, f"\n{lines.rstrip(chr(10))}" if missing_newline else lines)


def _next_line(text: str, at: int) -> int:
    """The start of the line behind the one that ``at`` stands in; ``at`` itself at a start of a line."""
    if at and text[at - 1] == "\n":
        return at
    newline = text.find("\n", at)
    return len(text) if newline < 0 else newline + 1


def _end(text: str, key: yaml.Node, node: yaml.Node) -> int:
    """Where the text of a value ends: before the blank and comment lines that follow a block."""
    if not _is_below(key, node):
        return int(key.end_mark.index)
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, *last) if isinstance(last, tuple) else _end(text, key, last)
    end = int(node.end_mark.index)
    while end > node.start_mark.index and text[end - 1] in " \t\r\n":
        end -= 1
    return end


def _colon(text: str, key: yaml.Node) -> int:
    """The position behind the colon of ``key``."""
    between, colon, _ = text[key.end_mark.index :].partition(":")
    if not colon or between.strip():
        raise MergeError("a key of it stands without a colon", "Write it as `key: value`; then plan again.")
    return int(key.end_mark.index) + len(between) + 1


def _prove(edits: _Edits, new: str, name: str, wanted: Mapping[str, Json]) -> None:
    """Raise MergeError unless ``new`` is the old text with ``wanted`` in its section, and nothing else."""
    try:
        before, after = _root(edits.text), _root(new)
        kept = _others(before, name) == _others(after, name) and _same_outside(edits, before, new, name)
        meant = joined(section(edits.text, name), wanted)
        if kept and _means(section(new, name), meant, edits.same):
            return
    except MergeError:
        pass  # What does not parse any more is refused below, in words about the file as it is.
    raise MergeError(
        f'its section "{name}" cannot be changed without a change to other parts of the file',
        f'Write "{name}" with plain keys and values, without anchors and aliases; then plan again.',
    )


def _same_outside(edits: _Edits, root: yaml.MappingNode | None, new: str, name: str) -> bool:
    """Whether every edit lies within the section, and the bytes around the edits are the old ones."""
    first, last = min(span[0] for span in edits.spans), max(span[1] for span in edits.spans)
    for key, value in root.value if root else []:
        if key.value == name:
            end = _next_line(edits.text, _end(edits.text, key, value))
            within = key.start_mark.index <= first and last <= end
            break
    else:
        within = first == last
    return within and new.startswith(edits.text[:first]) and new.endswith(edits.text[last:])


def _others(root: yaml.MappingNode | None, name: str) -> list[str]:
    """What the other sections mean, tags and order included."""
    seen: dict[int, str] = {}
    pairs = [pair for pair in (root.value if root else []) if pair[0].value != name]
    return [_fingerprint(node, seen) for pair in pairs for node in pair]


def _fingerprint(node: yaml.Node, seen: dict[int, str]) -> str:
    """A hash of a node's tags and values; each node is visited once, however often it is aliased."""
    if id(node) not in seen:
        seen[id(node)] = f"within itself, {len(seen)}"
        parts = (
            node.value if isinstance(node, yaml.ScalarNode) else [_fingerprint(p, seen) for p in _parts(node)]
        )
        seen[id(node)] = hashlib.sha256(repr((node.tag, parts)).encode("utf-8", "surrogatepass")).hexdigest()
    return seen[id(node)]


def _parts(node: yaml.Node) -> list[yaml.Node]:
    return [part for each in node.value for part in (each if isinstance(each, tuple) else (each,))]


def _means(present: Json, wanted: Json, same: Same) -> bool:
    if isinstance(present, Mapping) and isinstance(wanted, Mapping):
        keys = present.keys()
        return keys == wanted.keys() and all(_means(present[key], wanted[key], same) for key in keys)
    return same(present, wanted)
