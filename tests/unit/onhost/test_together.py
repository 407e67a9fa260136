"""Waits happen at once, and an error in one is the caller's."""

from __future__ import annotations

import threading

import pytest

from calm.onhost.together import together


def test_all_at_once() -> None:
    """Each waits until the other is there, so that one after the other would never end."""
    barrier = threading.Barrier(2, timeout=10)
    assert set(together({"a": barrier.wait, "b": barrier.wait}).values()) == {0, 1}


def test_results_come_in_the_order_of_the_tasks() -> None:
    assert list(together({name: lambda: 1 for name in "cab"})) == ["c", "a", "b"]


def test_an_error_is_raised_after_all_have_ended() -> None:
    ended = threading.Event()

    def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        together({"bad": fails, "good": ended.set})
    assert ended.is_set()
