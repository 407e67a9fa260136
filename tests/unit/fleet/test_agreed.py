"""What a person has agreed to, and what counts as a surprise."""

from __future__ import annotations

from dataclasses import replace

from calm.drift.model import Action, Change, HostDrift, Resource
from calm.fleet.agreed import Agreed, mark, marks, shown

REDIS = Resource(
    id="service:redis",
    kind="service",
    action=Action.UPDATE,
    changes=(Change(path="memory", before=1, after=2),),
    diff="+ password: calm-masked-0123456789ab",
)


def drift(*resources: Resource) -> HostDrift:
    return HostDrift(resources=resources, left_out=(), notes=(), record={})


def exact(*resources: Resource) -> Agreed:
    return Agreed(marks={"gpu-1": frozenset(marks(resources).items())}, exact=True)


def test_a_mark_tells_changes_apart_but_not_the_keys_of_digests() -> None:
    assert mark(REDIS) == mark(replace(REDIS, diff="+ password: calm-masked-ba9876543210"))
    assert mark(REDIS) != mark(replace(REDIS, changes=(Change(path="memory", before=3, after=2),)))


def test_an_exact_agreement_allows_nothing_else() -> None:
    agreed = exact(REDIS)
    assert agreed.surprises("gpu-1", drift(REDIS)) == ()
    assert agreed.surprises("gpu-1", drift()) == ("service:redis",), "less is a surprise, too"
    assert agreed.surprises("gpu-1", drift(replace(REDIS, diff="+ x"))) == ("service:redis",)
    assert agreed.surprises("gpu-2", drift(REDIS)) == ("service:redis",)


def test_after_a_plan_on_the_screen_less_to_do_is_fine() -> None:
    rows = [{"name": "gpu-1", "resources": [{"id": "service:redis", "action": "update"}]}]
    agreed = shown({"hosts": rows})
    assert agreed.surprises("gpu-1", drift()) == ()
    assert agreed.surprises("gpu-1", drift(replace(REDIS, diff="+ x"))) == ()
    assert agreed.surprises("gpu-1", drift(replace(REDIS, action=Action.RECREATE))) == ("service:redis",)
