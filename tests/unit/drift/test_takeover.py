"""A stack as people write it by hand: taken over with its project, volumes, passwords and services."""

from __future__ import annotations

import hashlib
from typing import Any

import yaml

from calm.desired.compose import compose
from calm.desired.documents import owned
from calm.drift import services, takeover, volumes
from calm.drift.model import Action, Context, Resource
from calm.settings import Settings
from tests.unit.drift.stack_states import bare, changed, engine, settings
from tests.unit.drift.states import absent, file

FOLDER = "/srv/session_memory"
OLD = """\
services:
  postgres:
    image: postgres:15-alpine
    container_name: agent-system-postgres
    environment:
      POSTGRES_USER: agent_user
      POSTGRES_DB: agent_system
      POSTGRES_PASSWORD: correct-horse-battery-staple
    ports: ["5432:5432"]
    volumes: ["postgres_data:/var/lib/postgresql/data"]
    networks: [agent-network]
  redis:
    image: redis:7-alpine
    container_name: agent-system-redis
    command: redis-server --requirepass another-long-password-1
    ports: ["6379:6379"]
    networks: [agent-network]
  nginx:
    image: nginx:alpine
    container_name: agent-system-nginx
    ports: ["8000:80"]
  metrics:
    image: example/metrics:2
    environment:
      DATABASE_URL: postgresql://agent_user:correct-horse-battery-staple@postgres/agent_system
    volumes: ["metrics_data:/data"]
volumes:
  postgres_data:
  metrics_data:
networks:
  agent-network:
    driver: bridge
"""


def ours() -> Settings:
    return settings(directory=FOLDER)


def old_container(service: str, **more: Any) -> dict[str, Any]:
    limits = dict.fromkeys(
        ("memory", "memory_swap", "memory_reservation", "nano_cpus", "cpu_quota", "cpu_period", "pids_limit"),
        0,
    )
    found = {
        "id": hashlib.sha256(service.encode()).hexdigest(),
        "name": f"agent-system-{service}",
        "image": f"{service}:old",
        "image_id": "sha256:0",
        "state": "running",
        "labels": {"com.docker.compose.project.working_dir": FOLDER},
        "service": service,
        "project": "session_memory",
        "env": {},
        "cmd": [],
        "entrypoint": ["docker-entrypoint.sh"],
        "user": "",
        "limits": {**limits, "restart": "no", "restart_max": 0},
        "cgroup_memory": None,
        "mounts": [],
        "networks": {"session_memory_agent-network": {}},
        "ports": [],
        "healthcheck": None,
        "log": {"driver": "json-file", "options": {}},
    }
    return {**found, **more}


def old_stack(text: str = OLD, name: str = "docker-compose.yml", **state: Any) -> Context:
    mount = {
        "type": "volume",
        "name": "session_memory_postgres_data",
        "source": "/var/lib/docker/volumes/session_memory_postgres_data/_data",
        "destination": "/var/lib/postgresql/data",
        "rw": True,
    }
    env = {
        "POSTGRES_PASSWORD": {"digest": "ab"},
        "POSTGRES_USER": "agent_user",
        "POSTGRES_DB": "agent_system",
    }
    port = {"container": 5432, "protocol": "tcp", "host_ip": "", "host_port": 5432}
    volume = {"exists": True, "labels": {}, "mountpoint": "/x", "pg_version": "15"}
    return bare(
        ours(),
        compose_file=file(f"{FOLDER}/{name}", text),
        files={"document:compose-extra": absent(f"{FOLDER}/docker-compose.extra.yml")},
        containers=[
            old_container("postgres", env=env, mounts=[mount], ports=[port]),
            old_container("redis", cmd=["redis-server", "--requirepass", "calm-masked-0123456789ab"]),
            old_container("nginx"),
            old_container("metrics", name="session_memory-metrics-1"),
        ],
        volumes={"session_memory_postgres_data": volume},
        networks={"session_memory_agent-network": {"id": "n", "labels": {}}},
        **state,
    )


def by_id(resources: tuple[Resource, ...]) -> dict[str, Resource]:
    return {one.id: one for one in resources}


def test_the_project_its_volume_and_its_network_are_taken_over() -> None:
    rendered = yaml.safe_load(compose(old_stack()).text)
    assert rendered["name"] == "session_memory"
    assert rendered["volumes"]["postgres_data"]["name"] == "session_memory_postgres_data"
    assert rendered["networks"]["agent-network"] == {"name": "session_memory_agent-network", "external": True}
    found = by_id(volumes.compare(old_stack()).resources)
    assert not found["volume:session_memory_postgres_data"].pending


def test_an_unknown_service_is_carried_with_its_secrets_left_on_the_host() -> None:
    extra = by_id(takeover.compare(old_stack()).resources)["document:compose-extra"]
    write = extra.effects[0]
    assert "correct-horse" not in str(extra)
    assert write["unmask_from"] == [f"{FOLDER}/docker-compose.yml"]
    assert write["mode"] == "0600"
    carried = yaml.safe_load(write["content"])
    assert list(carried["services"]) == ["metrics"]
    assert carried["volumes"] == {"metrics_data": None}
    assert "networks" not in carried


def test_ours_includes_the_carried_file_and_stays_on_its_network() -> None:
    rendered = yaml.safe_load(compose(old_stack()).text)
    included = {"path": f"{FOLDER}/docker-compose.extra.yml", "project_directory": FOLDER}
    assert rendered["include"] == [included]
    assert rendered["services"]["postgres"]["networks"] == ["agent-network", "default"]


def test_the_compose_file_waits_for_the_carried_one() -> None:
    document = next(one for one in owned(old_stack()) if one.id == "document:compose")
    assert document.path == f"{FOLDER}/docker-compose.yml"
    assert document.needs == ("takeover", "document:compose-extra")


def test_the_passwords_come_from_the_containers() -> None:
    assert takeover.sources(old_stack()) == {
        "postgres_password": {"container": "agent-system-postgres", "env": "POSTGRES_PASSWORD"},
        "redis_password": {"container": "agent-system-redis", "argument": "--requirepass"},
    }


def test_a_stranger_is_no_source_of_passwords() -> None:
    context = old_stack()
    for one in context.state["containers"]:
        one.update(project="elsewhere", labels={})
    assert takeover.sources(context) == {}


def test_the_services_are_made_anew_and_retired_ones_stopped() -> None:
    found = by_id(services.compare(old_stack()).resources)
    assert found["service:nginx"].action is Action.REMOVE
    assert found["service:postgres"].action is Action.RECREATE
    assert "service:metrics" not in found
    note = found["service:postgres"].note
    assert note is not None
    assert "5432 closes to other machines" in note
    effects = [effect["do"] for effect in found["service:postgres"].effects]
    assert effects == ["compose", "wait_healthy", "postgres_password", "prove_login"]


def test_the_stack_stays_taken_over() -> None:
    first = old_stack()
    extra = by_id(takeover.compare(first).resources)["document:compose-extra"].effects[0]["content"]
    text = compose(first).text
    record = {**services.compare(first).record, **volumes.compare(first).record}
    state = {
        **first.state,
        "compose_file": file(f"{FOLDER}/docker-compose.yml", text),
        "files": {"document:compose-extra": file(f"{FOLDER}/docker-compose.extra.yml", extra)},
        "containers": [],
    }
    later = changed(first, state=state, record=record)
    assert compose(later).text == text
    assert takeover.compare(later).resources == ()


def refusal_of(context: Context) -> tuple[str, str]:
    resource = by_id(takeover.compare(context).resources)["takeover"]
    assert resource.refused is not None
    return resource.refused.message, resource.refused.hint


def test_a_file_under_another_name_is_refused() -> None:
    message, hint = refusal_of(old_stack(name="compose.yaml"))
    assert "compose.yaml" in message
    assert "docker-compose.yml" in hint


def test_a_file_that_is_no_compose_file_is_refused() -> None:
    assert "no Compose file" in refusal_of(old_stack("services: [\n"))[0]
    assert "no Compose file" in refusal_of(old_stack("- just\n- a list\n"))[0]


def test_another_role_is_refused_with_what_to_set() -> None:
    context = old_stack()
    context.state["containers"][0]["env"]["POSTGRES_DB"] = "memories"
    assert 'calm.docker.postgres.database to "memories"' in refusal_of(context)[1]
    refusal = by_id(services.compare(context).resources)["service:postgres"].refused
    assert refusal is not None
    assert 'calm.docker.postgres.database to "memories"' in refusal.hint


def test_another_major_version_is_refused_before_the_file_is_replaced() -> None:
    context = old_stack()
    context.state["volumes"]["session_memory_postgres_data"]["pg_version"] = "14"
    assert "written by postgres 14" in refusal_of(context)[0]


def test_nothing_is_replaced_while_the_engine_is_down() -> None:
    down = engine(status="down", error="connection refused")
    context = changed(old_stack(), state={**old_stack().state, "containers": [], "docker": down})
    assert "cannot be taken over now" in refusal_of(context)[0]
    assert takeover.sources(context)["postgres_password"]["container"] == "agent-system-postgres"


def test_a_password_that_cannot_be_read_is_no_reason_for_a_new_one() -> None:
    context = old_stack()
    context.state["containers"].pop(0)
    message, hint = refusal_of(context)
    assert "postgres" in message
    assert "docker compose up -d postgres" in hint
    given = changed(context, secrets={"postgres_password": "given-by-the-inventory"})
    assert "takeover" not in by_id(takeover.compare(given).resources)


def test_without_a_directory_nothing_is_taken_over() -> None:
    context = changed(old_stack(), settings=settings())
    assert takeover.compare(context).resources == ()
    assert compose(context).stack.project == "agent-system"
    refusal = by_id(services.compare(context).resources)["service:redis"].refused
    assert refusal is not None
    assert f"set calm.docker.directory to {FOLDER}" in refusal.hint
