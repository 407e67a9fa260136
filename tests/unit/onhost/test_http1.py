"""HTTP/1.1 as an engine speaks it: every form of answer, and no broken one taken for a whole one."""

from __future__ import annotations

import io

import pytest

from calm.onhost import http1

CHUNKED = "HTTP/1.1 200 OK\r\ntransfer-ENCODING: Chunked\r\n\r\n"


def answer(text: str) -> tuple[http1.Head, bytes]:
    stream = io.BytesIO(text.encode())
    head = http1.head(stream)
    return head, http1.body(stream, head)


@pytest.mark.parametrize(
    ("text", "status", "body"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[1]\nmore", 200, b"[1]\n"),
        (CHUNKED + "3\r\n[1,\r\n2;x=y\r\n2]\r\n0\r\n\r\n", 200, b"[1,2]"),
        (CHUNKED + "0\r\nChecked: yes\r\n\r\n", 200, b""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity, chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n", 200, b"1"),
        ("HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\n\r\nto the end", 404, b"to the end"),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b""),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}", 201, b"{}"),
        ("HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nraw", 101, b"raw"),
        ("HTTP/1.1 200\nContent-Length: 1\n\n1", 200, b"1"),
    ],
)  # fmt: skip
def test_answers(text: str, status: int, body: bytes) -> None:
    head, found = answer(text)
    assert (head.status, found) == (status, body)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 twohundred\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[1]",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[1]",
        "HTTP/1.1 200 OK\r\nContent-Length: four\r\n\r\n[1]\n",
        CHUNKED + "5\r\n[1]\r\n",
        CHUNKED + "3\r\n[1]\r\n",
        CHUNKED + "-3\r\n[1]\r\n0\r\n\r\n",
        CHUNKED + "2\r\n[1]\r\n0\r\n\r\n",
        CHUNKED + "0x1\r\n1\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n1",
        "HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\n" + "a: b\r\n" * 1000 + "\r\n",
        "HTTP/1.1 200 " + "x" * 100_000 + "\r\n\r\n",
    ],
    ids=lambda text: text[:60].strip() or "nothing",
)
def test_a_broken_answer_is_no_answer(text: str) -> None:
    with pytest.raises(http1.BrokenAnswerError):
        answer(text)


def test_a_request_is_one_and_holds_no_second() -> None:
    sent = http1.request("POST", "/a?b=c", b"{}", {"Connection": "Upgrade"})
    lines = sent.decode().split("\r\n")
    assert lines[0] == "POST /a?b=c HTTP/1.1"
    assert {"Host: docker", "Connection: Upgrade", "Content-Length: 2"} <= set(lines)
    assert lines[-2:] == ["", "{}"]
    for target in ("/a b", "/a\r\nX: y", "/\u00e9"):
        with pytest.raises(ValueError, match="cannot be sent"):
            http1.request("GET", target)
