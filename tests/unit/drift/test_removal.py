"""What a remove takes away, and what it leaves for others."""

from __future__ import annotations

from calm.drift.model import Context, HostDrift
from calm.drift.removal import removal
from tests.unit.drift.stack_states import changed, converged, settings
from tests.unit.drift.states import file

CONVERGED = converged()
NETWORK = next(iter(CONVERGED.state["networks"]))


def ids(drift: HostDrift) -> list[str]:
    return [resource.id for resource in drift.resources]


def on_the_network(context: Context, *names: str) -> Context:
    """The same host with further containers on the stack's network."""
    there = changed(context)
    there.state["networks"][NETWORK]["containers"] += names
    return there


def test_the_network_goes_once_its_containers_are_gone() -> None:
    resource = next(one for one in removal(CONVERGED).resources if one.kind == "network")
    assert resource.effects == ({"do": "network_remove", "name": NETWORK, "expect_id": "n1"},)
    services = {one for one in ids(removal(CONVERGED)) if one.startswith("service:")}
    assert set(resource.needs) == services
    assert services >= {"service:postgres", "service:redis", "service:agent-api"}


def test_a_network_that_others_are_on_stays_and_plan_says_so() -> None:
    found = removal(on_the_network(CONVERGED, "somebody-else"))
    assert not [one for one in ids(found) if one.startswith("network:")]
    assert [note for note in found.notes if NETWORK in note and "somebody-else" in note]


def test_networks_of_others_are_not_even_named() -> None:
    there = changed(CONVERGED)
    foreign = {"id": "n2", "labels": {"com.docker.compose.project": "other"}, "containers": []}
    there.state["networks"] |= {"other_default": foreign, "bridge": {**foreign, "labels": {}}}
    found = removal(there)
    assert [one for one in ids(found) if one.startswith("network:")] == [f"network:{NETWORK}"]
    assert not [note for note in found.notes if "other_default" in note]


def test_the_network_of_a_stack_that_was_taken_over_stays() -> None:
    labels = {"com.docker.compose.project": CONVERGED.settings.docker.project}
    there = changed(CONVERGED, settings=settings(directory="/srv/stack"))
    there.state["networks"] = {NETWORK: {"id": "n1", "labels": labels, "containers": []}}
    assert not [one for one in ids(removal(there)) if one.startswith("network:")]


def test_replicas_of_a_service_are_one_resource() -> None:
    there = changed(CONVERGED)
    redis = next(one for one in there.state["containers"] if one["service"] == "redis")
    there.state["containers"].append({**redis, "id": "f" * 64, "name": "calm-redis-2"})
    resource = [one for one in removal(there).resources if one.id == "service:redis"]
    assert len(resource) == 1
    removed = [effect["name"] for effect in resource[0].effects if effect["action"] == "remove"]
    assert sorted(removed) == sorted([redis["name"], "calm-redis-2"])


def test_the_file_of_carried_services_is_the_users_and_named() -> None:
    there = changed(CONVERGED)
    path = "/srv/stack/docker-compose.extra.yml"
    there.state["files"]["document:compose-extra"] = file(path, "services: {}\n")
    found = removal(there)
    assert [note for note in found.notes if path in note and "stays" in note]
    assert not [one for one in found.resources if any(path == effect.get("path") for effect in one.effects)]
