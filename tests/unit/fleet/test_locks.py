"""What `calm unlock` says of a lock."""

from __future__ import annotations

import time

from calm.fleet.locks import told


def test_each_lock_in_a_line() -> None:
    lease = {"who": "ann@desk pid 7", "created": time.time() - 30, "dead": False, "working": False}
    assert told(None) == "not locked"
    assert told(lease).startswith("locked by ann@desk pid 7 since 3")
    assert told({**lease, "working": True}).startswith("ann@desk pid 7 is at work there right now since 3")
    nameless = {**lease, "who": "process 812", "created": None, "working": True}
    assert told(nameless) == "process 812 is at work there right now"
