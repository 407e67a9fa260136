"""Measurements that do not hold each other up."""

from __future__ import annotations

import threading
import time

from calm.health.parallel import Workers, together


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


def test_workers_are_used_again_and_a_hanging_one_is_replaced() -> None:
    workers, never = Workers(), threading.Event()

    def who() -> int:
        time.sleep(0.01)
        return threading.get_ident()

    first = workers.together(dict.fromkeys("abc", who), timeout=5)
    second = workers.together(dict.fromkeys("abc", who), timeout=5)
    stuck = workers.together({"stuck": never.wait, "a": who}, timeout=0.2)
    third = workers.together(dict.fromkeys("abc", who), timeout=5)
    never.set()
    workers.close()

    assert len(set(first.values())) == 3
    assert set(second.values()) == set(first.values())
    assert isinstance(stuck["stuck"], TimeoutError)
    assert len(set(third.values())) == 3
    assert len(set(third.values()) - set(first.values())) == 1


def test_what_is_measured_while_the_owner_ends_still_comes() -> None:
    workers = Workers()
    workers.together({name: lambda: 1 for name in "abc"}, timeout=5)
    workers.close()
    began = time.monotonic()

    done = workers.together({name: lambda: 2 for name in "abc"}, timeout=30)

    assert done == {"a": 2, "b": 2, "c": 2}
    assert time.monotonic() - began < 5


def test_no_worker_outlives_its_owner() -> None:
    workers: set[threading.Thread] = set()

    together({name: lambda: workers.add(threading.current_thread()) for name in "abc"}, timeout=5)

    deadline = time.monotonic() + 5
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    assert workers
    assert [worker for worker in workers if worker.is_alive()] == []


def test_nothing_to_measure_takes_no_time() -> None:
    assert together({}, timeout=60) == {}
