"""Every kind of drift of a service: which field names it, who moved, and how it is put right."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calm.desired.documents import owned
from calm.drift import services
from calm.drift.model import Action, Context, Origin, Resource
from calm.onhost.masking import Masker
from calm.settings import Settings
from tests.unit.drift.stack_states import bare, changed, container, converged, engine, settings
from tests.unit.drift.states import file

CONVERGED = converged()
MIB = 1024**2


def resources(context: Context) -> dict[str, Resource]:
    """What plan would show, by id."""
    return {one.id: one for one in services.compare(context).resources if one.pending}


def done(resource: Resource) -> list[str]:
    """The effects of a resource in short: ``container update``, ``compose redis``."""
    words = []
    for effect in resource.effects:
        what = effect.get("action") or " ".join(effect.get("services", ()))
        words.append(f"{effect['do']} {what}".strip())
    return words


Inject = Callable[[dict[str, Any]], None]


def put(*path: str | int, value: Any) -> Inject:
    """Sets one value of a container."""

    def inject(found: dict[str, Any]) -> None:
        *above, last = path
        for key in above:
            found = found[key]  # type: ignore[index]
        found[last] = value  # type: ignore[index]

    return inject


@dataclass(frozen=True, kw_only=True)
class Case:
    """One injected difference on an otherwise converged host."""

    name: str
    inject: Inject
    field: str
    action: Action
    does: tuple[str, ...] = ()
    service: str = "redis"


UP = ("compose redis", "wait_healthy", "prove_login")

CASES = (
    Case(
        name="stopped",
        inject=put("state", value="exited"),
        field="state",
        action=Action.UPDATE,
        does=("container start", "wait_healthy"),
    ),
    Case(
        name="paused",
        inject=put("state", value="paused"),
        field="state",
        action=Action.UPDATE,
        does=("container unpause", "wait_healthy"),
    ),
    Case(name="dead", inject=put("state", value="dead"), field="state", action=Action.RECREATE, does=UP),
    Case(
        name="memory up",
        inject=put("limits", "memory", value=700 * MIB),
        field="memory",
        action=Action.UPDATE,
        does=("container update", "wait_healthy"),
    ),
    Case(
        name="memory down",
        inject=put("limits", "memory", value=300 * MIB),
        field="memory",
        action=Action.UPDATE,
        does=("container update", "wait_healthy"),
    ),
    Case(
        name="swap without end",
        inject=put("limits", "memory_swap", value=-1),
        field="swap",
        action=Action.UPDATE,
        does=("container update", "wait_healthy"),
    ),
    Case(
        name="another limit in the cgroup than in inspect",
        inject=put("cgroup_memory", value=900 * MIB),
        field="memory.cgroup",
        action=Action.UPDATE,
        does=("container update", "wait_healthy"),
    ),
    Case(
        name="reservation",
        inject=put("limits", "memory_reservation", value=0),
        field="memory_reserved",
        action=Action.UPDATE,
    ),
    Case(
        name="cpus", inject=put("limits", "nano_cpus", value=15 * 10**8), field="cpus", action=Action.UPDATE
    ),
    Case(name="no cpu limit", inject=put("limits", "nano_cpus", value=0), field="cpus", action=Action.UPDATE),
    Case(name="pids", inject=put("limits", "pids_limit", value=900), field="pids", action=Action.UPDATE),
    Case(name="restart", inject=put("limits", "restart", value="no"), field="restart", action=Action.UPDATE),
    Case(
        name="quota form",
        inject=put("limits", "cpu_quota", value=50000),
        field="cpus",
        action=Action.RECREATE,
        does=UP,
    ),
    Case(
        name="another variable",
        inject=put("env", "LOG_LEVEL", value="DEBUG"),
        field="environment.LOG_LEVEL",
        action=Action.RECREATE,
        service="agent-api",
    ),
    Case(name="another image", inject=put("image", value="redis:6"), field="image", action=Action.RECREATE),
    Case(
        name="the tag moved",
        inject=put("image_id", value="sha256:" + "2" * 64),
        field="image_id",
        action=Action.RECREATE,
    ),
    Case(
        name="no health check",
        inject=put("healthcheck", value=None),
        field="health.test",
        action=Action.RECREATE,
    ),
    Case(name="off its network", inject=put("networks", value={}), field="networks", action=Action.RECREATE),
    Case(
        name="port moved",
        inject=put("ports", 0, "host_port", value=7000),
        field="ports",
        action=Action.RECREATE,
    ),
    Case(
        name="another command",
        inject=put("cmd", value=["redis-server"]),
        field="command",
        action=Action.RECREATE,
    ),
    Case(
        name="another volume",
        inject=put("mounts", 0, "name", value="elsewhere"),
        field="mounts./data",
        action=Action.RECREATE,
    ),
    Case(name="log rotation", inject=put("log", "options", value={}), field="log", action=Action.RECREATE),
    Case(
        name="no stamp", inject=put("labels", "calm.stamp", value="0"), field="stamp", action=Action.RECREATE
    ),
    Case(
        name="made by hand, not by Compose",
        inject=lambda one: one.update(project=None, service=None, labels={}),
        field="stamp",
        action=Action.RECREATE,
        does=("container remove", *UP),
    ),
    Case(
        name="paused and changed",
        inject=lambda one: one.update(state="paused", image="redis:6"),
        field="image",
        action=Action.RECREATE,
        does=("container unpause", *UP),
    ),
)


def test_a_converged_host_has_nothing_to_do() -> None:
    assert resources(CONVERGED) == {}
    ids = [one.id for one in services.compare(CONVERGED).resources]
    assert ids == ["service:postgres", "service:redis", "service:agent-api"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_drift_is_named_with_its_origin_and_mended(case: Case) -> None:
    context = changed(CONVERGED)
    case.inject(container(context, case.service))
    found = resources(context)
    assert list(found) == [f"service:{case.service}"]
    resource = found[f"service:{case.service}"]
    assert resource.action is case.action
    assert resource.origin is Origin.HOST
    assert case.field in [change.path for change in resource.changes]
    assert not case.does or tuple(done(resource)) == case.does


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_without_a_record_every_difference_is_new(case: Case) -> None:
    context = changed(CONVERGED, record={})
    case.inject(container(context, case.service))
    resource = resources(context).get(f"service:{case.service}")
    if case.name == "another volume":
        assert resource is None  # where nothing is known, the data is where the container has it
    elif case.name.startswith("made by hand"):
        assert resource is not None
        assert resource.refused is not None
    else:
        assert resource is not None
        assert resource.origin is Origin.NEW


def test_only_the_differing_limits_are_updated() -> None:
    context = changed(CONVERGED)
    container(context, "redis")["limits"]["memory"] = 300 * MIB
    update = resources(context)["service:redis"].effects[0]
    assert update["memory"] == update["memory_swap"] == 512 * MIB
    assert "nano_cpus" not in update
    assert update["expect_id"] == container(context, "redis")["id"]


def test_an_unhealthy_or_crashing_container_is_left_to_the_agent() -> None:
    context = changed(CONVERGED)
    container(context, "redis").update(health="unhealthy")
    container(context, "agent-api").update(state="restarting")
    assert resources(context) == {}


def test_a_variable_more_is_drift_unless_the_image_or_dockers_client_brings_it() -> None:
    context = changed(CONVERGED)
    context.state["image_env"][container(context, "redis")["image_id"]]["GOSU_VERSION"] = "1.17"
    container(context, "redis")["env"] |= {"GOSU_VERSION": "1.17", "HTTP_PROXY": "http://proxy:3128"}
    assert resources(context) == {}
    container(context, "redis")["env"] |= {"BY_HAND": "1", "PATH": "/mine:/usr/bin"}
    resource = resources(context)["service:redis"]
    found = {one.path: (one.before, one.after, one.origin) for one in resource.changes}
    assert found == {
        "environment.BY_HAND": ("1", None, Origin.HOST),
        "environment.PATH": ("/mine:/usr/bin", "/usr/bin", Origin.HOST),
    }
    assert resource.action is Action.RECREATE


def test_a_variable_more_whose_value_is_secret_is_named_alone() -> None:
    context = changed(CONVERGED)
    container(context, "redis")["env"]["API_TOKEN"] = {"digest": "ab" * 32}
    [change] = resources(context)["service:redis"].changes
    assert (change.path, change.sensitive, change.before) == ("environment.API_TOKEN", True, None)


def test_without_the_images_own_variables_none_is_called_added() -> None:
    context = changed(CONVERGED)
    context.state["image_env"].clear()
    container(context, "redis")["env"]["FROM_SOMEWHERE"] = "1"
    assert resources(context) == {}


def test_a_port_that_others_will_reach_is_called_out_when_it_is_made() -> None:
    found = resources(bare(settings(bind="0.0.0.0")))
    note = found["service:redis"].note
    assert note == "port 6379 opens to other machines: it listens on 0.0.0.0"
    assert resources(bare())["service:redis"].note is None


def test_a_port_more_that_others_will_reach_is_called_out() -> None:
    context = changed(CONVERGED, settings=settings(services={"redis": {"ports": ["0.0.0.0:7000:7000"]}}))
    note = resources(context)["service:redis"].note
    assert note is not None
    assert "port 7000 opens to other machines" in note
    assert "6379" not in note


def test_a_removed_container_is_made() -> None:
    context = changed(CONVERGED)
    context.state["containers"].remove(container(context, "redis"))
    resource = resources(context)["service:redis"]
    assert (resource.action, resource.origin) == (Action.CREATE, Origin.HOST)
    assert done(resource) == list(UP)
    assert not resource.effects[0]["recreate"]


def test_a_changed_setting_is_told_from_a_changed_host() -> None:
    memory = changed(CONVERGED, settings=settings(redis={"memory": "1G"}))
    by_path = {change.path: change for change in resources(memory)["service:redis"].changes}
    assert by_path["memory"].origin is Origin.SETTINGS
    container(memory, "redis")["limits"]["memory"] = 300 * MIB
    by_path = {change.path: change for change in resources(memory)["service:redis"].changes}
    assert by_path["memory"].origin is Origin.BOTH


def test_a_setting_that_only_the_stamp_shows_recreates() -> None:
    context = changed(CONVERGED, settings=settings(services={"redis": {"shm_size": "32m"}}))
    resource = resources(context)["service:redis"]
    assert resource.action is Action.RECREATE
    assert [(one.path, one.origin) for one in resource.changes] == [("stamp", Origin.SETTINGS)]


def test_a_limit_that_is_not_declared_any_more_takes_a_new_container() -> None:
    extra = {"image": "nginx:1", "mem_limit": "64m"}
    context = converged(settings(services={"extra": extra}))
    less = changed(context, settings=settings(services={"extra": {"image": "nginx:1"}}))
    resource = resources(less)["service:extra"]
    assert resource.action is Action.RECREATE
    assert "memory" in [change.path for change in resource.changes]


def test_an_edited_redis_conf_recreates_redis_alone() -> None:
    context = changed(CONVERGED)
    entry = context.state["files"]["document:redis.conf"]
    context.state["files"]["document:redis.conf"] = file(entry["path"], "maxmemory 1gb\n")
    found = resources(context)
    assert list(found) == ["service:redis"]
    assert (found["service:redis"].action, found["service:redis"].origin) == (Action.RECREATE, Origin.HOST)
    assert "document:redis.conf" in found["service:redis"].needs


def test_an_orphan_of_earlier_settings_is_removed_first() -> None:
    context = converged(settings(services={"extra": {"image": "nginx:1"}}))
    without = changed(context, settings=settings())
    resource = services.compare(without).resources[0]
    assert (resource.id, resource.action, resource.origin) == (
        "service:extra",
        Action.REMOVE,
        Origin.SETTINGS,
    )
    assert done(resource) == ["container stop", "container remove"]
    assert "extra" not in services.compare(without).record["services"]


def test_a_container_of_our_name_from_elsewhere_is_refused() -> None:
    context = bare(containers=[])
    stranger = {**container(CONVERGED, "redis"), "labels": {}, "project": "other", "service": "cache"}
    there = changed(context, state={**context.state, "containers": [stranger]})
    refusal = resources(there)["service:redis"].refused
    assert refusal is not None
    assert "agent-system-redis" in refusal.message
    assert "other" in refusal.message
    assert "docker rename" in refusal.hint


def test_a_container_of_another_project_is_left_alone() -> None:
    context = changed(CONVERGED)
    stranger = {**container(CONVERGED, "redis"), "id": "f" * 64, "name": "mine", "labels": {}}
    context.state["containers"].append({**stranger, "project": "other"})
    assert resources(context) == {}


def test_what_compose_left_behind_is_swept() -> None:
    context = changed(CONVERGED)
    twin = {
        **container(context, "redis"),
        "id": "e" * 64,
        "name": "0123_agent-system-redis",
        "state": "created",
    }
    context.state["containers"].append(twin)
    resource = resources(context)["service:redis"]
    assert resource.action is Action.RECREATE
    assert resource.effects[1] == {
        "do": "container",
        "name": "0123_agent-system-redis",
        "action": "remove",
        "expect_id": "e" * 64,
    }


def _replica(context: Context, number: int) -> dict[str, Any]:
    first = container(context, "extra")
    labels = {**first["labels"], "com.docker.compose.container-number": str(number)}
    name = f"agent-system-extra-{number}"
    return {**copy.deepcopy(first), "id": f"{number}" * 64, "name": name, "labels": labels}


def _scaled(count: int, **spec: Any) -> Context:
    """A service of the user's own with declared replicas that has ``count`` containers."""
    with_extra = settings(services={"extra": {"image": "nginx:1", "mem_limit": "64m", **spec}})
    context = changed(converged(with_extra))
    numbered = [_replica(context, number) for number in range(count, 0, -1)]
    context.state["containers"].remove(container(context, "extra"))
    context.state["containers"] += numbered
    return context


def test_replicas_that_somebody_added_are_taken_away_and_the_first_stays() -> None:
    resource = resources(_scaled(3, scale=1))["service:extra"]
    assert (resource.action, resource.origin) == (Action.UPDATE, Origin.HOST)
    assert [(one.path, one.before, one.after) for one in resource.changes] == [("containers", 3, 1)]
    removed = [one["name"] for one in resource.effects if one.get("action") == "remove"]
    assert removed == ["agent-system-extra-2", "agent-system-extra-3"]


@pytest.mark.parametrize("spec", [{"scale": 3}, {"deploy": {"replicas": 3}}])
def test_declared_replicas_are_all_compared(spec: dict[str, Any]) -> None:
    context = _scaled(3, **spec)
    assert resources(context) == {}
    third = next(one for one in context.state["containers"] if one["name"] == "agent-system-extra-3")
    third["limits"]["memory"] = 32 * MIB
    resource = resources(context)["service:extra"]
    assert resource.action is Action.RECREATE
    assert [one.path for one in resource.changes] == ["agent-system-extra-3.memory"]


def test_a_declared_replica_that_is_missing_is_made_beside_the_others() -> None:
    resource = resources(_scaled(2, scale=3))["service:extra"]
    assert resource.action is Action.UPDATE
    assert [(one.path, one.before, one.after) for one in resource.changes] == [("containers", 2, 3)]
    [up] = [one for one in resource.effects if one["do"] == "compose"]
    assert up["services"] == ["extra"]
    assert not up["recreate"]


def test_every_replica_of_a_service_that_is_not_wanted_goes() -> None:
    without = changed(_scaled(2, scale=2), settings=settings())
    resource = resources(without)["service:extra"]
    assert resource.action is Action.REMOVE
    removed = {one["name"] for one in resource.effects if one["action"] == "remove"}
    assert removed == {"agent-system-extra-1", "agent-system-extra-2"}


def test_running_values_are_put_right_in_place() -> None:
    context = changed(CONVERGED)
    context.state["running"]["redis"]["parameters"]["maxmemory"] = str(10 * MIB)
    context.state["running"]["postgres"]["parameters"]["work_mem"] = "1GB"
    found = resources(context)
    assert done(found["service:redis"]) == ["wait_healthy", "redis_set"]
    assert list(found["service:redis"].effects[-1]["parameters"]) == ["maxmemory"]
    assert done(found["service:postgres"]) == ["wait_healthy", "postgres_reset_role"]
    assert found["service:postgres"].effects[-1]["parameters"] == ["work_mem"]
    assert [one.path for one in found["service:postgres"].changes] == ["running.work_mem"]


@pytest.mark.parametrize(
    ("before", "after"), [("aof", "rdb"), ("rdb", "aof"), ("none", "rdb"), ("none", "aof")]
)
def test_redis_keeps_its_data_when_its_persistence_changes(before: str, after: str) -> None:
    context = changed(
        converged(settings(redis={"persistence": before})), settings=settings(redis={"persistence": after})
    )
    resource = resources(context)["service:redis"]
    assert resource.action is Action.RECREATE
    assert resource.effects[0]["do"] == "redis_set"
    assert resource.effects[0]["parameters"]["appendonly"] == ("yes" if after == "aof" else "no")


def test_a_size_in_another_unit_is_the_same_value() -> None:
    context = changed(CONVERGED)
    context.state["running"]["postgres"]["parameters"]["shared_buffers"] = "262144kB"
    assert resources(context) == {}


def test_a_password_that_redis_refuses_takes_a_new_container() -> None:
    context = changed(CONVERGED)
    context.state["running"]["redis"] = {"error": "redis in agent-system-redis says: WRONGPASS invalid"}
    resource = resources(context)["service:redis"]
    assert [change.path for change in resource.changes] == ["running.login"]
    assert resource.action is Action.RECREATE


@pytest.mark.parametrize(
    ("service", "does"),
    [
        ("postgres", ["postgres_password", "prove_login"]),
        ("redis", ["secret", "container restart", "wait_healthy", "prove_login"]),
    ],
)
def test_a_server_gets_the_kept_password(service: str, does: list[str]) -> None:
    context = changed(CONVERGED)
    context.state["running"][service]["has_password"] = False
    found = resources(context)
    assert set(found) == {f"service:{service}", "service:agent-api"}
    resource = found[f"service:{service}"]
    (change,) = resource.changes
    assert (resource.action, resource.origin) == (Action.UPDATE, Origin.HOST)
    assert (change.path, change.sensitive) == ("running.password", True)
    assert (change.before, change.after) == (None, None)
    assert done(resource) == ["wait_healthy", *does]


@pytest.mark.parametrize("servers", [["postgres"], ["redis"], ["postgres", "redis"]])
def test_who_uses_a_password_is_started_again_once_all_servers_have_theirs(servers: list[str]) -> None:
    context = changed(CONVERGED)
    for service in servers:
        context.state["running"][service]["has_password"] = False
    found = resources(context)
    api = found["service:agent-api"]
    assert list(found) == [*(f"service:{service}" for service in servers), "service:agent-api"]
    assert {f"service:{service}" for service in servers} <= set(api.needs)
    assert [change.path for change in api.changes] == ["running.secrets"]
    assert done(api) == ["container restart", "wait_healthy"]


@pytest.mark.parametrize("known", [True, None])
def test_a_password_that_is_right_or_cannot_be_told_is_no_drift(known: bool | None) -> None:
    context = changed(CONVERGED)
    for service in ("redis", "postgres"):
        context.state["running"][service]["has_password"] = known
    assert resources(context) == {}


def test_a_new_container_of_a_server_asks_for_the_kept_password_anyway() -> None:
    before = converged(settings(redis={"persistence": "aof"}))
    context = changed(before, settings=settings(redis={"persistence": "rdb"}))
    context.state["running"]["redis"]["has_password"] = False
    resource = resources(context)["service:redis"]
    assert resource.action is Action.RECREATE
    assert "running.password" not in [change.path for change in resource.changes]
    assert done(resource)[-1] == "prove_login"


def test_a_given_secret_reaches_its_consumers() -> None:
    context = changed(CONVERGED, secrets={"jwt_secret": "another-value-of-the-key"})
    found = resources(context)
    assert list(found) == ["service:agent-api"]
    change = found["service:agent-api"].changes[0]
    assert (change.path, change.sensitive, change.origin) == ("secrets.jwt_secret", True, Origin.SETTINGS)
    assert "another-value" not in json.dumps([one.to_json() for one in found["service:agent-api"].changes])


def test_secrets_in_the_environment_are_compared_and_called_out() -> None:
    context = converged(settings(agent_api={"secrets_as": "env"}))
    assert any("docker inspect" in note for note in services.compare(context).notes)
    api = resources(context)["service:agent-api"]
    assert [change.path for change in api.changes] == [
        "secrets.postgres_password",
        "secrets.redis_password",
        "secrets.jwt_secret",
    ]
    known = context.state["secrets"]["values"]
    env = {name.upper(): {"digest": entry["digest"]} for name, entry in known.items()}
    container(context, "agent-api")["env"].update(env)
    assert resources(context) == {}


def own_server(password: str) -> Settings:
    command = ["redis-server", "--requirepass", password, "--port", "7000"]
    return settings(services={"cache": {"image": "redis:7-alpine", "command": command}})


def test_a_password_on_the_users_own_command_line_is_compared_and_never_shown() -> None:
    there = converged(own_server("one-secret-word"))
    cache, masker = container(there, "cache"), Masker(there.digest_key)
    cache["cmd"] = ["redis-server", "--requirepass", masker.placeholder("one-secret-word"), "--port", "7000"]
    assert "service:cache" not in resources(there)
    assert "one-secret-word" not in str(services.compare(there).record)
    changes = resources(changed(there, settings=own_server("another-word")))["service:cache"].changes
    assert "command" in {change.path for change in changes}
    assert "word" not in str([change.to_json() for change in changes])
    cache["cmd"][-1] = "7001"
    assert [change.path for change in resources(there)["service:cache"].changes] == ["command"]


def test_a_rotation_recreates_the_server_and_its_consumers() -> None:
    rotated = CONVERGED.settings.model_copy(
        update={"secrets": CONVERGED.settings.secrets.model_copy(update={"rotate": {"redis_password": 2}})}
    )
    found = resources(changed(CONVERGED, settings=rotated))
    assert list(found) == ["service:redis", "service:agent-api"]
    assert {resource.origin for resource in found.values()} == {Origin.SETTINGS}


def test_swap_is_not_compared_where_the_kernel_counts_none() -> None:
    context = changed(CONVERGED, state={**CONVERGED.state, "docker": engine(swap_limit=False)})
    container(context, "redis")["limits"]["memory_swap"] = -1
    assert resources(context) == {}


def test_more_cpus_than_the_host_has_are_the_hosts() -> None:
    small = converged(docker=engine(cpus=1))
    assert resources(small) == {}
    piece = services.compare(small)
    assert any("cpus" in note for note in piece.notes)
    assert piece.record["services"]["agent-api"]["fields"]["cpus"] == 1.0


def test_a_port_of_another_program_is_refused_and_named() -> None:
    context = bare(ports={"6379": {"taken": True, "by": "valkey-server"}})
    refusal = resources(context)["service:redis"].refused
    assert refusal is not None
    assert "6379" in refusal.message
    assert "valkey-server" in refusal.message
    assert resources(context)["service:postgres"].refused is None


def test_a_port_of_the_container_itself_is_no_matter() -> None:
    context = changed(CONVERGED)
    context.state["ports"]["6379"] = {"taken": True, "by": "agent-system-redis"}
    container(context, "redis")["image"] = "redis:6"
    assert resources(context)["service:redis"].refused is None


def test_a_port_that_closes_is_called_out() -> None:
    context = changed(CONVERGED)
    container(context, "redis")["ports"][0]["host_ip"] = "0.0.0.0"
    note = resources(context)["service:redis"].note
    assert note is not None
    assert "6379 closes" in note


@dataclass(frozen=True, kw_only=True)
class Broken:
    """An engine that cannot be used."""

    name: str
    docker: dict[str, Any]
    says: str


BROKEN = (
    Broken(name="down", docker={"status": "down", "error": None}, says="The Docker Engine does not answer."),
    Broken(
        name="down, as the host says it",
        docker={"status": "down", "error": "the Docker Engine does not answer at /run/docker.sock"},
        says="The Docker Engine does not answer at /run/docker.sock.",
    ),
    Broken(name="denied", docker={"status": "denied"}, says="no right"),
    Broken(name="no command", docker={"command": None}, says="no docker command"),
    Broken(name="no compose", docker={"compose": None}, says="Compose plugin is missing"),
    Broken(name="old compose", docker={"compose": "2.17.3"}, says="Docker Compose 2.17.3 is too old"),
    Broken(name="old engine", docker={"version": "19.03.15"}, says="Docker Engine 19.03.15 is too old"),
)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_an_engine_that_cannot_be_used_is_refused_once(broken: Broken) -> None:
    context = changed(CONVERGED, state={**CONVERGED.state, "docker": engine(**broken.docker)})
    piece = services.compare(context)
    assert [resource.id for resource in piece.resources] == ["docker"]
    refusal = piece.resources[0].refused
    assert refusal is not None
    assert broken.says in refusal.message
    assert refusal.message.count("does not answer") <= 1
    assert refusal.hint
    assert {left.id for left in piece.left_out} >= {"service:postgres", "service:redis", "service:agent-api"}
    assert piece.record["services"] == CONVERGED.record["services"]


def test_an_engine_that_is_down_changes_no_document() -> None:
    found = {"status": "found", "generation": "new"}
    context = converged(docker=engine(cpus=1), lmstudio=found)
    down = engine(status="down", api=None, cpus=None, gateway=None)
    later = changed(context, state={**context.state, "docker": down, "containers": [], "networks": {}})
    assert [one.content for one in owned(later)] == [one.content for one in owned(context)]


def test_without_docker_the_stack_is_left_out() -> None:
    absent = {"status": "absent", "command": None, "socket": None}
    piece = services.compare(bare(docker=absent))
    assert piece.resources == ()
    assert "neither a docker command" in piece.left_out[0].reason


def test_docker_that_vanished_is_a_failure() -> None:
    absent = engine(status="absent", command=None, socket=None)
    context = changed(CONVERGED, state={**CONVERGED.state, "docker": absent})
    assert resources(context)["docker"].refused is not None


def test_the_order_follows_the_dependencies() -> None:
    own = {
        "web": {"image": "nginx:1", "depends_on": ["agent-api"]},
        "a-proxy": {"image": "nginx:1", "depends_on": {"web": {"condition": "service_started"}}},
    }
    piece = services.compare(bare(settings(services=own)))
    ids = [resource.id for resource in piece.resources]
    assert ids == ["service:postgres", "service:redis", "service:agent-api", "service:web", "service:a-proxy"]
    by_id = {resource.id: resource for resource in piece.resources}
    assert "service:web" in by_id["service:a-proxy"].needs
    assert {"service:postgres", "service:redis", "secret:jwt_secret"} <= set(by_id["service:agent-api"].needs)


def test_another_role_than_the_volumes_is_refused() -> None:
    context = changed(CONVERGED, settings=settings(postgres={"user": "somebody"}))
    refusal = resources(context)["service:postgres"].refused
    assert refusal is not None
    assert 'calm.docker.postgres.user to "agent_user"' in refusal.hint


@given(
    st.dictionaries(
        st.sampled_from(["memory", "memory_swap", "memory_reservation", "nano_cpus", "pids_limit"]),
        st.integers(min_value=0, max_value=2**40),
        min_size=1,
    )
)
def test_any_change_of_limits_is_put_right_without_a_new_container(limits: dict[str, int]) -> None:
    context = changed(CONVERGED)
    found = container(context, "redis")
    before = dict(found["limits"])
    found["limits"].update(limits)
    resource = resources(context).get("service:redis")
    if resource is None:
        # Docker's own way to write "no swap": less than memory, or the same.
        assert found["limits"]["memory"] == before["memory"]
        return
    assert resource.action is Action.UPDATE
    update = resource.effects[0]
    for key in ("memory", "memory_swap", "memory_reservation", "nano_cpus", "pids_limit"):
        assert update.get(key, found["limits"][key]) == before[key] or key == "memory_swap"
