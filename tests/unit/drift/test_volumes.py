"""Volumes: made once, found where the data is, never beside old data, never removed."""

from __future__ import annotations

from typing import Any

import pytest

from calm.desired.volumes import image_major
from calm.drift import volumes
from calm.drift.model import Action, Context, Origin, Resource
from tests.unit.drift.stack_states import bare, changed, container, converged, settings


def resources(context: Context) -> dict[str, Resource]:
    return {one.id: one for one in volumes.compare(context).resources}


def there(**about: Any) -> dict[str, Any]:
    return {"exists": True, "labels": {}, "mountpoint": "/x", "pg_version": None, **about}


def test_volumes_are_made_with_our_label() -> None:
    found = resources(bare())["volume:agent-system_redis_data"]
    assert (found.action, found.origin) == (Action.CREATE, Origin.NEW)
    assert found.effects == (
        {"do": "volume", "name": "agent-system_redis_data", "labels": {"calm.project": "agent-system"}},
    )


def test_volumes_that_are_there_are_left() -> None:
    assert not any(one.pending for one in resources(converged()).values())


def test_the_record_remembers_where_the_data_is() -> None:
    context = converged(settings(volumes={"postgres": "precious"}))
    later = changed(context, settings=settings())
    assert "volume:precious" in resources(later)


def test_the_running_containers_volume_is_used() -> None:
    context = changed(converged(), record={})
    container(context, "postgres")["mounts"][0]["name"] = "old_pgdata"
    context.state["volumes"]["old_pgdata"] = there()
    found = resources(context)
    assert not found["volume:old_pgdata"].pending
    assert "volume:agent-system_postgres_data" not in found


def test_a_folder_that_a_stack_brought_along_is_kept() -> None:
    context = changed(converged(), record={})
    mount = container(context, "postgres")["mounts"][0]
    mount.update(type="bind", name=None, source="/srv/stack/pgdata")
    piece = volumes.compare(context)
    assert [one.id for one in piece.resources] == ["volume:agent-system_redis_data"]
    assert piece.record["volumes"]["/srv/stack/pgdata"]["folder"] == "/srv/stack/pgdata"
    again = changed(context, record=piece.record, state={**context.state, "containers": []})
    assert [one.id for one in volumes.compare(again).resources] == ["volume:agent-system_redis_data"]


@pytest.mark.parametrize(
    ("docker", "old"),
    [
        ({"volumes": {"postgres": "new_name"}}, "agent-system_postgres_data"),
        ({"directory": "/srv/session_memory"}, "session_memory_postgres_data"),
    ],
)
def test_an_empty_volume_beside_old_data_is_refused(docker: dict[str, Any], old: str) -> None:
    context = bare(settings(**docker), volumes={old: there()})
    refused = [one for one in resources(context).values() if one.refused]
    assert len(refused) == 1
    assert refused[0].refused is not None
    assert old in refused[0].refused.message
    assert f'calm.docker.volumes.postgres to "{old}"' in refused[0].refused.hint


def test_every_candidate_is_asked_of_the_probe() -> None:
    asked = volumes.request(settings(directory="/srv/session_memory", volumes={"redis": "mine"}))
    assert asked["docker"]["volumes"] == [
        "agent-system_postgres_data",
        "session_memory_postgres_data",
        "mine",
        "agent-system_redis_data",
        "session_memory_redis_data",
    ]


def test_another_major_version_is_refused() -> None:
    context = changed(converged())
    context.state["volumes"]["agent-system_postgres_data"]["pg_version"] = "14"
    refusal = resources(context)["volume:agent-system_postgres_data"].refused
    assert refusal is not None
    assert "written by postgres 14" in refusal.message
    assert "postgres:14-alpine" in refusal.hint


def test_the_same_major_version_is_fine() -> None:
    context = changed(converged())
    context.state["volumes"]["agent-system_postgres_data"]["pg_version"] = "15"
    assert not any(one.pending for one in resources(context).values())


def test_a_volume_that_vanished_is_made_and_said() -> None:
    context = changed(converged())
    context.state["volumes"]["agent-system_redis_data"]["exists"] = False
    found = resources(context)["volume:agent-system_redis_data"]
    assert found.origin is Origin.HOST
    assert found.note is not None


@pytest.mark.parametrize(
    ("image", "major"),
    [
        ("postgres:15-alpine", "15"),
        ("registry.example:5000/library/postgres:16.2", "16"),
        ("bitnami/postgresql:14", "14"),
        ("postgres@sha256:abc", None),
        ("timescale/timescaledb:2.1-pg14", None),
    ],
)
def test_the_major_version_in_an_image_name(image: str, major: str | None) -> None:
    assert image_major(image) == major
