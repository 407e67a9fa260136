"""What is remembered of a snapshot."""

from __future__ import annotations

from calm.heal.view import trace
from tests.unit.heal.made import container, instance, model, snapshot


def test_what_has_not_changed_is_kept_once() -> None:
    first = trace(snapshot(instance(), containers=[container()], models=[model()]))
    second = trace(snapshot(instance(), containers=[container()], models=[model()]), first)
    assert second == first
    assert second.restarts is first.restarts
    assert second.models is first.models


def test_what_has_changed_is_new() -> None:
    first = trace(snapshot(containers=[container(restarts=1)], models=[model()]))
    second = trace(snapshot(containers=[container(restarts=2)], models=None), first)
    assert list(second.restarts.values()) == [2]
    assert second.models is None
    assert list(first.restarts.values()) == [1]


def test_sizes_alone_make_no_new_entry_in_the_trail() -> None:
    first = trace(snapshot(instance(), containers=[container(restarts=1)], models=[model()]))

    assert not trace(
        snapshot(instance(uss_bytes=1), containers=[container(restarts=1)], models=[model()])
    ).differs(first)
    assert trace(snapshot(instance(), containers=[container(restarts=2)], models=[model()])).differs(first)
    assert trace(snapshot(instance(), containers=[container(restarts=1)], models=[])).differs(first)
    assert trace(snapshot(instance(7), containers=[container(restarts=1)], models=[model()])).differs(first)
