"""What a chat end point says: server-sent events, what they mean, and how they go wrong. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class AttemptError(Exception):
    """A provider did not answer, or not to the end.

    ``kind`` is refused, reset, timeout, http_<status>, error_body, garbage, empty, broken_stream or no_key;
    ``again`` says that the same provider may be asked again, ``after`` the seconds it wants to be left alone.
    """

    def __init__(self, kind: str, says: str, *, again: bool = False, after: float | None = None) -> None:
        super().__init__(says)
        self.kind, self.again, self.after = kind, again, after


class Events:
    """Cuts a server-sent event stream into the data of its events, however its bytes arrive.

    https://html.spec.whatwg.org/multipage/server-sent-events.html, of which only ``data`` matters here.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that ``data`` completes."""
        # A lone CR may be half of a CRLF: it waits for the next bytes.
        whole = self._rest + data
        held = b"\r" if whole.endswith(b"\r") else b""
        *events, rest = whole.removesuffix(b"\r").replace(b"\r\n", b"\n").split(b"\n\n")
        self._rest = rest + held
        return [payload for event in events if (payload := _payload(event))]


def delta_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an event adds to the answer: a streamed ``delta``, or the whole ``message``."""
    choice = _choice(event)
    delta = choice.get("delta") or choice.get("message")
    return delta if isinstance(delta, Mapping) else {}


def said(event: Mapping[str, Any]) -> str | None:
    """The text of one event; ``""`` for a token that is no text, ``None`` where there is no token."""
    delta = delta_of(event)
    if content := delta.get("content"):
        return str(content)
    return "" if thought(delta) or delta.get("tool_calls") else None


def thought(delta: Mapping[str, Any]) -> str:
    """The reasoning in a delta: ``reasoning_content`` (LM Studio, vLLM) or ``reasoning`` (ollama)."""
    return str(delta.get("reasoning_content") or delta.get("reasoning") or "")


def finished(event: Mapping[str, Any]) -> bool:
    """Whether the answer is whole: its last choice gives a reason, or the stream says that it is done."""
    return bool(event.get("done") or _choice(event).get("finish_reason"))


def _choice(event: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = event.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}


def complaint(event: Any) -> str | None:
    """The error in an answer, as one line; LM Studio sends some with a good status."""
    error = event.get("error") if isinstance(event, Mapping) else None
    if not error:
        return None
    words = error.get("message") or error.get("type") if isinstance(error, Mapping) else error
    return " ".join(str(words or "an error without words").split())[:200]


def parsed(payload: bytes) -> dict[str, Any]:
    """The event in ``payload``; raises ``AttemptError`` if it is an error or no event."""
    if payload == b"[DONE]":
        return {"done": True}
    try:
        event = json.loads(payload)
    except ValueError:
        raise AttemptError("garbage", "the answer is not what a chat end point says") from None
    if says := complaint(event):
        raise AttemptError("error_body", f"it answered with an error: {says}")
    if not isinstance(event, dict):
        raise AttemptError("garbage", "the answer is not what a chat end point says")
    return event


def _payload(event: bytes) -> bytes:
    lines = (line for line in event.replace(b"\r", b"\n").split(b"\n") if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
