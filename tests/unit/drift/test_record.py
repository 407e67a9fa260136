"""The record after an apply, and what is said when there is none that can be read."""

from __future__ import annotations

import pytest

from calm.drift import host, removal
from calm.drift.record import after
from tests.unit.drift.states import absent, context, empty

OLD = {"services": {"redis": {"stamp": "old"}}, "secrets": {}, "agent": "old"}
NEW = {"services": {"redis": {"stamp": "new"}, "postgres": {"stamp": "new"}}, "secrets": {"jwt_secret": {}}}


def test_what_failed_stays_as_it_was_recorded() -> None:
    whole = after(OLD, NEW, failed=["service:redis", "secret:jwt_secret"])
    assert whole["services"] == {"redis": {"stamp": "old"}, "postgres": {"stamp": "new"}}
    assert whole["secrets"] == {}


def test_a_failed_agent_keeps_its_old_record() -> None:
    assert after(OLD, NEW | {"agent": "new"}, failed=["agent"])["agent"] == "old"


@pytest.mark.parametrize("compare", [host.compare, removal.removal])
def test_a_record_that_cannot_be_read_is_told(compare: object) -> None:
    asked = host.request(context().settings, digest_key="")["documents"]
    files = {name: absent(f"/home/ada/calm/{name}") for name in asked}
    state = empty() | {"files": files}
    assert not [
        note for note in compare(context(state=state)).notes if "record.json" in note and "known" in note
    ]  # type: ignore[operator]
    error = "/home/ada/calm/record.json is no record of calm's"
    found = compare(context(state=state | {"record_error": error}))  # type: ignore[operator]
    assert any(error in note for note in found.notes)
