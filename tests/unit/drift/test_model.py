"""Origins, and what of a change is shown."""

from __future__ import annotations

import pytest

from calm.drift.host import merged
from calm.drift.model import Change, Origin, joint_origin, origin_of
from calm.drift.record import after


@pytest.mark.parametrize(
    ("recorded", "before", "after", "expected"),
    [
        (None, 1, 2, Origin.NEW),
        (2, 1, 2, Origin.HOST),
        (1, 1, 2, Origin.SETTINGS),
        (3, 1, 2, Origin.BOTH),
    ],
)
def test_who_moved(recorded: int | None, before: int, after: int, expected: Origin) -> None:
    assert origin_of(recorded=recorded, before=before, after=after) is expected


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        ((), None),
        ((Origin.HOST, Origin.HOST), Origin.HOST),
        ((Origin.HOST, Origin.SETTINGS), Origin.BOTH),
        ((Origin.NEW, Origin.HOST), Origin.HOST),
        ((Origin.NEW, Origin.SETTINGS), Origin.BOTH),
    ],
)
def test_the_origin_of_several_changes(origins: tuple[Origin, ...], expected: Origin | None) -> None:
    assert joint_origin(origins) is expected


def test_a_sensitive_change_has_no_values() -> None:
    change = Change(path="password", before="old", after="new", sensitive=True)
    assert change.to_json() == {"path": "password", "before": None, "after": None, "sensitive": True}


def test_requests_are_merged_and_lists_joined() -> None:
    assert merged({"a": {"x": [1], "y": 1}}, {"a": {"x": [1, 2], "y": 2}}) == {"a": {"x": [1, 2], "y": 2}}


def test_what_failed_stays_as_it_was_recorded() -> None:
    old = {"services": {"redis": {"stamp": "a"}}, "documents": {"document:compose": {"sha256": "1"}}}
    new = {
        "services": {"redis": {"stamp": "b"}, "postgres": {"stamp": "c"}},
        "documents": {"document:compose": {"sha256": "2"}},
    }
    assert after(old, new, failed=("service:redis", "service:postgres"))["services"] == {
        "redis": {"stamp": "a"}
    }
    assert after(old, new, failed=())["services"] == new["services"]
    assert after(old, new, failed=("document:compose",))["documents"] == old["documents"]
