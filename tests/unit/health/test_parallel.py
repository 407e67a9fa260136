"""Measurements that do not hold each other up."""

from __future__ import annotations

import threading
import time

from calm.health.parallel import together


def test_each_gives_its_value_its_error_or_its_delay() -> None:
    never = threading.Event()

    def broken() -> None:
        raise RuntimeError("no such luck")

    began = time.monotonic()
    done = together({"fine": lambda: 7, "broken": broken, "hanging": never.wait}, timeout=0.3)
    took = time.monotonic() - began
    never.set()

    assert done["fine"] == 7
    assert str(done["broken"]) == "no such luck"
    assert isinstance(done["hanging"], TimeoutError)
    assert took < 1.0


def test_they_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3)

    done = together({name: lambda: meeting.wait(5) for name in "abc"}, timeout=5)

    assert sorted(done.values()) == [0, 1, 2]
