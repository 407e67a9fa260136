"""HTTP/1.1 as far as an engine speaks it: one request to a connection.

``http.client`` would bring the parsers of mail along, which cost a host more time than all its questions to
the engine. The format: https://www.rfc-editor.org/rfc/rfc9112.
"""

from __future__ import annotations

import re
from typing import IO, Mapping, NamedTuple

SWITCHING_PROTOCOLS = 101

_LONGEST_LINE, _MOST_LINES = 1 << 16, 200
_LENGTH, _SIZE = re.compile(r"\d{1,12}"), re.compile(r"[0-9A-Fa-f]{1,10}")


class BrokenAnswerError(ValueError):
    """What came is no answer of HTTP, or not all of it."""


class Head(NamedTuple):
    """How an answer begins; the ``fields`` by their names in small letters."""

    status: int
    fields: Mapping[str, str]


def request(method: str, target: str, body: bytes | None = None, fields: Mapping[str, str] = {}) -> bytes:
    """The bytes to send. ``target`` holds nothing but printable ASCII; ValueError for anything else."""
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError("a path holds what cannot be sent")
    whole = {"Host": "docker", "Connection": "close", **fields}
    if body is not None:
        whole |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in whole.items()), "", ""]
    return "\r\n".join(lines).encode("ascii") + (body or b"")


def head(stream: IO[bytes]) -> Head:
    """Reads the beginning of the answer, past those that only say that one will come."""
    while True:
        version, _, rest = _line(stream).partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/1.") or not status.isdigit():
            raise BrokenAnswerError("no answer of HTTP")
        found = Head(int(status), _fields(stream))
        if found.status >= 200 or found.status == SWITCHING_PROTOCOLS:
            return found


def body(stream: IO[bytes], found: Head) -> bytes:
    """Reads what follows the beginning ``found``, whole: in pieces, of a length, or up to the end."""
    if found.status in (204, 304):
        return b""
    if found.fields.get("transfer-encoding", "").lower().rpartition(",")[2].strip() == "chunked":
        return b"".join(iter(lambda: _piece(stream), b""))
    length = found.fields.get("content-length")
    return stream.read() if length is None else _exactly(stream, _number(length, _LENGTH, 10))


def _fields(stream: IO[bytes]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for _ in range(_MOST_LINES):
        line = _line(stream)
        if not line:
            return fields
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    raise BrokenAnswerError("an answer that does not come to its point")


def _line(stream: IO[bytes]) -> str:
    line = stream.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise BrokenAnswerError("an answer that was cut off")
    return line.decode("latin-1").rstrip("\r\n")


def _piece(stream: IO[bytes]) -> bytes:
    """The next piece; the last one is empty, and what may follow it says nothing here."""
    size = _number(_line(stream).partition(";")[0], _SIZE, 16)
    if not size:
        _fields(stream)
        return b""
    data = _exactly(stream, size)
    if _line(stream):
        raise BrokenAnswerError("a piece that is longer than it says")
    return data


def _number(text: str, form: re.Pattern[str], base: int) -> int:
    if form.fullmatch(text.strip()) is None:
        raise BrokenAnswerError("an answer of no length")
    return int(text, base)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise BrokenAnswerError("an answer that was cut off")
    return data
