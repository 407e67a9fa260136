"""Keeps secrets on the host: found by key and by value, replaced by placeholders that tell nothing.

A placeholder is ``calm-masked-`` and twelve digits of HMAC-SHA256(digest key, value). Whoever has the key of
this run can tell equal from different, and the effect, which masks the same file again, can put the value
back; nobody can compute it. Text stays what it was around the values: their quotes, comments and order.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from functools import lru_cache
from typing import Any, Iterable, Iterator

from calm.onhost.errors import RefusedError

PLACEHOLDER = "calm-masked-"
HIDDEN = "(hidden)"

SECRET_OPTIONS = ("--requirepass", "--masterauth", "--password", "--pass", "-a")
"""Options of redis and its like that take a password as their next argument."""

_PLACEHOLDER = re.compile(PLACEHOLDER + "[0-9a-f]{12}")

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|[A-Z]|[0-9]+")
_NAME = re.compile(r"[a-z]+([_-][a-z]+)*")
_STRONG = ("password", "passwd", "passphrase", "secret", "requirepass", "masterauth")
_WEAK = {"token", "tokens", "credential", "credentials", "bearer", "passkey", "auth", "authorization", "pass"}
_HARMLESS_KEY = {"public", "primary", "model", "foreign", "sort", "cache", "partition", "hot", "short"}
_ABOUT = frozenset(
    (
        *(
            "file",
            "path",
            "dir",
            "folder",
            "ttl",
            "length",
            "enabled",
            "timeout",
            "expiry",
            "seconds",
            "limit",
        ),
        *(
            "policy",
            "type",
            "method",
            "mode",
            "name",
            "user",
            "host",
            "port",
            "provider",
            "size",
            "count",
            "as",
        ),
    )
)
_STRUCTURE = frozenset(
    (
        "file",
        "external",
        "environment",
        "name",
        "source",
        "target",
        "mode",
        "uid",
        "gid",
        "path",
        "type",
        "enabled",
    )
)
_NOTHING = {"", "null", "~", "true", "false", "yes", "no", "on", "off", "none"}

_PAIR = re.compile(r"""(?P<quote>["']?)(?P<key>[A-Za-z_][\w.-]*)(?:(?P=quote)\s*:(?=\s|$|["'])|\s*=)[ \t]*""")
_VALUE = re.compile(r'"(?P<double>(?:[^"\\]|\\.)*)"|' + r"'(?P<single>(?:[^']|'')*)'")
_PLAIN = re.compile(r"(?:(?!\s#)[^\n])*")
_FLOW = re.compile(r"[^\s,}\]\"']+")
_REFERENCE = re.compile(r"\$\{?\w+(:?\?[^}]*)?\}?$")
_SHAPES = (
    re.compile(r"://[^/\s:@\"']*:(?P<value>[^@\s/\"']+)@"),
    re.compile(
        r"""(?:--?password|\brequirepass|\bmasterauth)(?:["',\s=]+(?:-\s+)?["']?)(?P<value>[^\s"',\]]+)"""
    ),
    re.compile(r"""redis-cli\b[^\n]*?["'\s]-a["',\s]+(?P<value>[^\s"',\]]+)"""),
    re.compile(r"(?P<value>\b(?:sk-|ghp_|gho_|github_pat_|glpat-|xox[abp]-|AIza|hf_)[\w:-]{12,})"),
    re.compile(r"\bBearer\s+(?P<value>[\w.~+/-]{8,}=*)"),
    re.compile(r"(?P<value>\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)"),
)


def looks_secret(key: str) -> bool:
    """Whether a value under this key is one that nobody else should read."""
    return _strength(key) > 0


@lru_cache(maxsize=1024)
def _strength(key: str) -> int:
    """2: whatever stands there is secret; 1: unless it is a number; 0: not secret."""
    words = [word.lower() for word in _WORD.findall(key)]
    if not words or words[-1] in _ABOUT:
        return 0
    if any(strong in word for strong in _STRONG for word in words) or (words[1:] and "pwd" in words):
        return 2
    a_key = words[-1] in ("key", "keys") and len(words) > 1 and words[-2] not in _HARMLESS_KEY
    return 1 if a_key or "apikey" in words[-1] or _WEAK & set(words) else 0


def _worth(value: str, strength: int) -> bool:
    if value.strip().lower() in _NOTHING or _REFERENCE.match(value) or _PLACEHOLDER.search(value):
        return False
    return strength == 2 or (strength == 1 and not re.fullmatch(r"[-+]?[\d.]+", value))


def telling(value: str) -> bool:
    """Whether finding this value in a text means that the text holds the secret.

    A password that is a plain word ("postgres") is also a name of other things; it is masked by key alone.
    """
    return len(value) >= 16 or (len(value) >= 6 and _NAME.fullmatch(value) is None)


class Masker:
    """Masks with one run's digest key (hex); learns the secrets that it meets."""

    def __init__(self, digest_key: str | None = None, values: Iterable[str] = ()) -> None:
        self._key = bytes.fromhex(digest_key) if digest_key else os.urandom(32)
        self._known: set[str] = set()
        for value in values:
            self.learn(value)

    def learn(self, value: str) -> None:
        """Remembers a secret, so that it is found wherever it stands."""
        if value.strip():
            self._known.add(value)

    def known(self) -> frozenset[str]:
        """The secrets that it has learned."""
        return frozenset(self._known)

    def digest(self, value: str) -> str:
        """HMAC-SHA256 of the value, in hex."""
        return hmac.new(self._key, value.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def placeholder(self, value: str) -> str:
        """What stands for the value in a masked text."""
        return PLACEHOLDER + self.digest(value)[:12]

    def holds_secret(self, value: str) -> bool:
        """Whether a text holds a secret by its value or its shape."""
        return any(known in value for known in self._known if telling(known)) or any(
            True for _ in _shaped(value)
        )

    def text(self, content: str) -> tuple[str, dict[str, str]]:
        """The content with placeholders, and what each placeholder stands for."""
        spans = _settled(_spans(content, self._known))
        originals, parts, last = {}, [], 0
        for start, end in spans:
            placeholder = self.placeholder(content[start:end])
            originals[placeholder] = content[start:end]
            parts += [content[last:start], placeholder]
            last = end
        return "".join([*parts, content[last:]]), originals

    def value(self, value: Any) -> Any:
        """A JSON value with every secret in its strings replaced by a placeholder."""
        if isinstance(value, str):
            return self.text(value)[0]
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return value

    def hide(self, text: str) -> str:
        """A sentence of ours for people: without any known secret, and without what is shaped like one."""
        for known in sorted(self._known, key=len, reverse=True):
            if len(known) >= 4:
                text = text.replace(known, HIDDEN)
        return self._hidden(text, _settled(_shaped(text)))

    def hide_output(self, text: str) -> str:
        """What a program said, for people: as `hide`, and without what its words call a password."""
        return self.hide(self._hidden(text, _settled(_spans(text, self._known))))

    @staticmethod
    def _hidden(text: str, spans: list[tuple[int, int]]) -> str:
        for start, end in reversed(spans):
            text = text[:start] + HIDDEN + text[end:]
        return text


def arguments(words: list[str] | None, masker: Masker) -> list[str]:
    """A command line without its secrets: what follows an option for one is one, however plain a word."""
    given = list(words or ())
    return [
        masker.placeholder(word) if before in SECRET_OPTIONS and word else masker.text(word)[0]
        for before, word in zip(["", *given], given)
    ]


def unmask(content: str, originals: dict[str, str], path: str) -> str:
    """Puts the values back. Raises `RefusedError` if a placeholder is left that nobody can fill."""
    for placeholder, value in originals.items():
        content = content.replace(placeholder, value)
    if _PLACEHOLDER.search(content):
        raise RefusedError(f"{path} holds a secret that changed since the plan was made: plan again")
    return content


def _settled(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, without overlaps: the longer one wins."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(set(spans), key=lambda span: (span[0], -span[1])):
        if start < end and (not out or start >= out[-1][1]):
            out.append((start, end))
    return out


def _spans(content: str, known: Iterable[str]) -> Iterator[tuple[int, int]]:
    yield from _shaped(content)
    yield from _equal(content, (value for value in known if telling(value)))
    try:
        document = json.loads(content)
    except ValueError:
        yield from _lines(content)
        return
    if isinstance(document, (dict, list)):
        yield from _json(content, document)


def _shaped(content: str) -> Iterator[tuple[int, int]]:
    for shape in _SHAPES:
        for match in shape.finditer(content):
            if _worth(match["value"], 2):
                yield match.span("value")


def _equal(content: str, values: Iterable[str]) -> Iterator[tuple[int, int]]:
    for value in values:
        at = content.find(value)
        while at >= 0:
            yield at, at + len(value)
            at = content.find(value, at + len(value))


def _json(content: str, document: Any) -> Iterator[tuple[int, int]]:
    """The secret strings of a JSON text, wherever they stand as a value."""
    for value in set(_json_secrets(document, 0)):
        for encoded in {json.dumps(value), json.dumps(value, ensure_ascii=False)}:
            for match in re.finditer(r'(?<![\w"])' + re.escape(encoded) + r"(?!\s*:)", content):
                yield match.start() + 1, match.end() - 1


def _json_secrets(value: Any, strength: int) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            inherited = 0 if key in _STRUCTURE else strength
            yield from _json_secrets(item, max(_strength(key), inherited))
    elif isinstance(value, list):
        for item in value:
            yield from _json_secrets(item, strength)
    elif isinstance(value, str) and _worth(value, strength):
        yield value


def _lines(content: str) -> Iterator[tuple[int, int]]:
    """The secrets of a YAML, .env or .conf text, by the keys of its lines."""
    at, under = 0, _Under(-1, 0)
    for line in content.splitlines(keepends=True):
        body = line.rstrip("\r\n")
        indent = len(body) - len(body.lstrip())
        if body.strip() and indent <= under.indent:
            under = _Under(-1, 0)
        for start, end in _line(body, under):
            yield at + start, at + end
        under = _opened(body, indent) or under
        at += len(line)


class _Under:
    """The secret key whose value goes on in the lines below, by its indentation."""

    def __init__(self, indent: int, strength: int, literal: bool = False) -> None:
        self.indent, self.strength, self.literal = indent, strength, literal


def _opened(body: str, indent: int) -> _Under | None:
    for match in _PAIR.finditer(body):
        rest = _PLAIN.match(body, match.end())
        value = rest.group().strip() if rest else ""
        if _strength(match["key"]) and (not value or value[0] in "|>{[") and value[-1:] not in ("}", "]"):
            return _Under(indent, _strength(match["key"]), value[:1] in ("|", ">"))
    return None


def _line(body: str, under: _Under) -> Iterator[tuple[int, int]]:
    if under.literal:
        yield len(body) - len(body.lstrip()), len(body.rstrip())
        return
    pairs = list(_PAIR.finditer(body))
    for match in pairs:
        inherited = 0 if match["key"] in _STRUCTURE else under.strength
        strength = max(_strength(match["key"]), inherited)
        if strength:
            yield from _scalars(body, match, strength)
    item = re.match(r"\s*-\s+", body)
    if under.strength and item and not pairs and not _NAME.fullmatch(body[item.end() :].strip("\"' ")):
        yield from _scalar(body, item.end(), under.strength, flow=False)


def _scalars(body: str, match: re.Match[str], strength: int) -> Iterator[tuple[int, int]]:
    """The value of a pair: one scalar, or those of a collection that stands on the same line."""
    start = match.end()
    if body[start : start + 1] in ("{", "["):
        inner = re.compile(r"""[\[{,:]\s*(?=["'\w/+$])""")
        for gap in inner.finditer(body, start):
            if not re.match(r"""["']?[\w.-]+["']?\s*:(\s|$)""", body[gap.end() :]):
                yield from _scalar(body, gap.end(), strength, flow=True)
        return
    opening = match["quote"] if not match.group().rstrip().endswith(":") else ""
    if opening and opening in body[start:]:
        end = body.index(opening, start)
        if _worth(body[start:end], strength):
            yield start, end
        return
    before = body[: match.start()]
    yield from _scalar(body, start, strength, flow="{" in before or "[" in before)


def _scalar(body: str, start: int, strength: int, *, flow: bool) -> Iterator[tuple[int, int]]:
    quoted = _VALUE.match(body, start)
    if quoted:
        span = quoted.span("double" if quoted["double"] is not None else "single")
    else:
        plain = (_FLOW if flow else _PLAIN).match(body, start)
        text = plain.group().rstrip() if plain else ""
        span = (start, start + len(text))
    value = body[span[0] : span[1]]
    if value and value[0] not in "|>{[&*!" and _worth(value, strength):
        yield span
