"""``--only`` takes along what a resource needs."""

from __future__ import annotations

import pytest

from calm.drift.model import HostDrift, LeftOut, Resource
from calm.fleet.choice import UnknownResourceError, chosen

DRIFT = HostDrift(
    resources=(
        Resource(id="secret:redis_password", kind="secret"),
        Resource(id="document:redis.conf", kind="document"),
        Resource(id="document:app.yaml", kind="document"),
        Resource(id="service:redis", kind="service", needs=("document:redis.conf", "secret:redis_password")),
        Resource(id="service:agent-api", kind="service", needs=("service:redis",)),
    ),
    left_out=(LeftOut(id="lmstudio", reason="not installed"),),
    notes=(),
    record={},
)


def ids(drift: HostDrift) -> list[str]:
    return [resource.id for resource in drift.resources]


def test_nothing_chosen_is_everything() -> None:
    assert chosen(DRIFT, ()) is DRIFT


def test_an_id_comes_with_its_needs_in_order() -> None:
    assert ids(chosen(DRIFT, ("service:redis",))) == [
        "secret:redis_password",
        "document:redis.conf",
        "service:redis",
    ]


def test_needs_of_needs_come_along() -> None:
    assert "secret:redis_password" in ids(chosen(DRIFT, ("service:agent-api",)))


def test_a_kind_is_all_of_its_kind() -> None:
    assert ids(chosen(DRIFT, ("document",))) == ["document:redis.conf", "document:app.yaml"]


def test_a_word_that_names_nothing_is_refused() -> None:
    with pytest.raises(UnknownResourceError, match="sevice"):
        chosen(DRIFT, ("sevice",))


def test_what_is_left_out_may_be_named() -> None:
    assert ids(chosen(DRIFT, ("lmstudio",))) == []
