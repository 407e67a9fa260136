from typing import Any

import pytest

from calm.drift import secrets
from calm.drift.model import Action, Origin, Piece, Resource
from calm.onhost.masking import Masker
from calm.settings import Settings
from tests.unit.drift.states import DIGEST_KEY, ROOT, context

NAMES = ("postgres_password", "redis_password", "jwt_secret")
GIVEN = {"env": "X"}


def lying(*, mode: str = "0444", folder_mode: str = "0700", **values: str) -> dict[str, Any]:
    """Secrets as the probe tells of them."""
    there = {name: values.get(name, f"made-{name}") for name in NAMES} | values
    found = {
        name: {
            "status": "file",
            "mode": mode,
            "digest": Masker(DIGEST_KEY).digest(value),
            "bytes": len(value),
        }
        for name, value in there.items()
        if value != "absent"
    }
    found["redis_auth.conf"] = {"status": "file", "mode": "0444", "digest": "x", "bytes": 50}
    return {"secrets": {"folder_mode": folder_mode, "folder_uid": 1000, "status": "folder", "values": found}}


def running(service: str, state: str = "running") -> dict[str, Any]:
    return {
        "name": f"agent-system-{service}",
        "id": f"id-{service}",
        "state": state,
        "service": service,
        "project": "agent-system",
        "labels": {"calm.project": "agent-system"},
        "env": {},
        "cmd": [],
        "mounts": [],
    }


def of(piece: Piece, name: str) -> Resource:
    return next(resource for resource in piece.resources if resource.id == f"secret:{name}")


def recorded(**rotations: int) -> dict[str, Any]:
    """The record of a host whose secrets calm has made."""
    made = {name: {"rotation": rotations.get(name, 0), "given": None} for name in NAMES}
    return {"secrets": made, "services": {"postgres": {}, "redis": {}, "agent-api": {}}}


def verbs(resource: Resource) -> list[str]:
    return [effect["do"] for effect in resource.effects]


def test_the_probe_is_asked_for_every_secret_that_there_may_be() -> None:
    asked = [*NAMES, "gemini_api_key", "redis_auth.conf"]
    assert secrets.request(Settings()) == {"secrets": asked}


def test_on_a_new_host_each_is_made_with_256_bits() -> None:
    piece = secrets.compare(context())
    assert [resource.id for resource in piece.resources] == [f"secret:{name}" for name in NAMES]
    assert {resource.action for resource in piece.resources} == {Action.CREATE}
    assert {resource.origin for resource in piece.resources} == {Origin.NEW}
    assert of(piece, "jwt_secret").effects == ({"do": "secret", "name": "jwt_secret", "length": 32},)
    assert piece.record["secrets"]["jwt_secret"] == {"rotation": 0, "given": None}


def test_what_is_there_is_kept() -> None:
    piece = secrets.compare(context({}, lying(), record=recorded()))
    assert not any(resource.pending for resource in piece.resources)
    assert piece.record["secrets"] == recorded()["secrets"]


def test_a_lost_record_rotates_nothing() -> None:
    settings = {"secrets": {"rotate": {"jwt_secret": 3}}}
    piece = secrets.compare(context(settings, lying()))
    assert not any(resource.pending for resource in piece.resources)
    assert piece.record["secrets"]["jwt_secret"]["rotation"] == 3


def test_a_change_of_a_secret_never_has_its_value() -> None:
    given = {"jwt_secret": "correct horse battery"}
    settings = {"secrets": {"jwt_secret": GIVEN}}
    piece = secrets.compare(context(settings, lying(), record=recorded(), secrets=given))
    resource = of(piece, "jwt_secret")
    assert [change.to_json() for change in resource.changes] == [
        {"path": "value", "before": None, "after": None, "sensitive": True}
    ]
    assert resource.effects == ({"do": "secret", "name": "jwt_secret", "value": "correct horse battery"},)
    assert "correct horse" not in str(resource.changes) + str(resource.note) + str(piece.record)


def test_a_given_value_that_lies_there_is_no_change_and_its_record_stays_the_same() -> None:
    given = {"jwt_secret": "correct horse battery"}
    settings = {"secrets": {"jwt_secret": GIVEN}}
    state = lying(jwt_secret="correct horse battery")
    first = secrets.compare(context(settings, state, secrets=given))
    assert not of(first, "jwt_secret").pending
    again = secrets.compare(context(settings, state, record=first.record, secrets=given))
    assert not of(again, "jwt_secret").pending
    assert again.record == first.record


def test_a_given_value_that_an_interrupted_apply_wrote_is_still_told() -> None:
    settings = {"secrets": {"postgres_password": GIVEN}}
    state = {**lying(postgres_password="the-new-one"), "containers": [running("postgres")]}
    piece = secrets.compare(
        context(settings, state, record=recorded(), secrets={"postgres_password": "the-new-one"})
    )
    assert of(piece, "postgres_password").origin is Origin.SETTINGS
    assert verbs(of(piece, "postgres_password")) == ["secret", "postgres_password"]


@pytest.mark.parametrize(
    ("last", "now", "lies", "origin"),
    [
        ("one", "one", "edited", Origin.HOST),
        ("one", "two", "one", Origin.SETTINGS),
        (None, "two", "made", Origin.SETTINGS),
    ],
)
def test_who_changed_a_given_secret(last: str | None, now: str, lies: str, origin: Origin) -> None:
    settings = {"secrets": {"jwt_secret": GIVEN}}
    before = {"jwt_secret": last} if last else {}
    record = secrets.compare(context(settings, lying(), record=recorded(), secrets=before)).record
    piece = secrets.compare(
        context(settings, lying(jwt_secret=lies), record=record, secrets={"jwt_secret": now})
    )
    assert of(piece, "jwt_secret").origin is origin


def test_a_raised_counter_makes_a_new_value_and_tells_postgres_before_its_consumers() -> None:
    settings = {"secrets": {"rotate": {"postgres_password": 2}}}
    state = {**lying(), "containers": [running("postgres")]}
    piece = secrets.compare(context(settings, state, record=recorded(postgres_password=1)))
    resource = of(piece, "postgres_password")
    assert (resource.action, resource.origin) == (Action.UPDATE, Origin.SETTINGS)
    assert resource.effects == (
        {"do": "secret", "name": "postgres_password", "length": 32, "rotate": True},
        {
            "do": "postgres_password",
            "container": "agent-system-postgres",
            "user": "agent_user",
            "database": "agent_system",
            "secret": "postgres_password",
        },
    )
    assert piece.record["secrets"]["postgres_password"]["rotation"] == 2
    done = secrets.compare(context(settings, state, record={**recorded(), **piece.record}))
    assert not of(done, "postgres_password").pending


def test_redis_is_told_its_new_password_without_it_being_in_the_plan() -> None:
    settings = {"secrets": {"rotate": {"redis_password": 1}}}
    state = {**lying(), "containers": [running("redis")]}
    resource = of(secrets.compare(context(settings, state, record=recorded())), "redis_password")
    assert resource.effects[1:] == (
        {
            "do": "redis_set",
            "container": "agent-system-redis",
            "parameters": {"requirepass": {"secret": "redis_password"}},
        },
    )


@pytest.mark.parametrize(
    ("state", "action"), [("exited", "start"), ("created", "start"), ("paused", "unpause")]
)
def test_a_server_that_does_not_run_is_started_to_be_told(state: str, action: str) -> None:
    settings = {"secrets": {"rotate": {"postgres_password": 1}}}
    found = {**lying(), "containers": [running("postgres", state)]}
    resource = of(secrets.compare(context(settings, found, record=recorded())), "postgres_password")
    assert verbs(resource) == ["secret", "container", "wait_healthy", "postgres_password"]
    assert resource.effects[1]["action"] == action


@pytest.mark.parametrize("name", ["postgres_password", "redis_password"])
def test_a_server_that_is_made_anew_is_told_by_its_service(name: str) -> None:
    settings = {"secrets": {"rotate": {name: 1}}}
    assert verbs(of(secrets.compare(context(settings, lying(), record=recorded())), name)) == ["secret"]


@pytest.mark.parametrize("state", ["exited", "paused"])
def test_redis_reads_its_password_when_it_starts(state: str) -> None:
    settings = {"secrets": {"rotate": {"redis_password": 1}}}
    found = {**lying(), "containers": [running("redis", state)]}
    resource = of(secrets.compare(context(settings, found, record=recorded())), "redis_password")
    assert verbs(resource) == ["secret"]


@pytest.mark.parametrize("content", ["absent", ""])
def test_a_lost_file_is_made_anew_and_the_running_server_told(content: str) -> None:
    state = {**lying(postgres_password=content), "containers": [running("postgres")]}
    resource = of(secrets.compare(context({}, state, record=recorded())), "postgres_password")
    assert (resource.action, resource.origin) == (Action.CREATE, Origin.HOST)
    assert verbs(resource) == ["secret", "postgres_password"]


def test_without_a_counter_the_running_consumers_are_restarted_in_order() -> None:
    settings = {"secrets": {"redis_password": GIVEN}}
    stack = [running("redis"), {**running("api"), "service": "agent-api"}]
    found = {**lying(), "containers": stack}
    given = {"redis_password": "given-by-the-inventory"}
    resource = of(
        secrets.compare(context(settings, found, record=recorded(), secrets=given)), "redis_password"
    )
    assert verbs(resource) == [
        "secret",
        "redis_set",
        "container",
        "wait_healthy",
        "container",
        "wait_healthy",
    ]
    assert [effect["name"] for effect in resource.effects if effect["do"] == "container"] == [
        "agent-system-redis",
        "agent-system-api",
    ]
    assert resource.note == "restarts agent-system-redis, agent-system-api"


def test_a_container_that_is_not_ours_is_not_restarted() -> None:
    settings = {"secrets": {"jwt_secret": GIVEN}}
    found = {**lying(), "containers": [{**running("api"), "labels": {}}]}
    piece = secrets.compare(context(settings, found, record=recorded(), secrets={"jwt_secret": "given"}))
    assert verbs(of(piece, "jwt_secret")) == ["secret"]


def by_hand(service: str, **more: Any) -> dict[str, Any]:
    return {**running(service), "labels": {}, "entrypoint": [], **more}


def test_the_secrets_of_a_running_stack_are_taken_over() -> None:
    stack = [
        by_hand("postgres", env={"POSTGRES_PASSWORD": {"digest": "aa"}}),
        by_hand("redis", cmd=["redis-server", "--requirepass", "(hidden)"]),
    ]
    piece = secrets.compare(context({}, {"containers": stack}))
    assert of(piece, "postgres_password").effects == (
        {
            "do": "take_secret",
            "name": "postgres_password",
            "container": "agent-system-postgres",
            "env": "POSTGRES_PASSWORD",
        },
    )
    assert of(piece, "redis_password").effects[0]["argument"] == "--requirepass"
    assert of(piece, "redis_password").note == "taken over from the container agent-system-redis"
    assert verbs(of(piece, "jwt_secret")) == ["secret"]


def test_a_given_password_wins_over_that_of_the_running_stack_and_postgres_is_told() -> None:
    stack = [by_hand("postgres", env={"POSTGRES_PASSWORD": {"digest": "aa"}}), by_hand("redis")]
    settings = {"secrets": {"postgres_password": GIVEN, "redis_password": GIVEN}}
    given = {"postgres_password": "given-one", "redis_password": "given-two"}
    piece = secrets.compare(context(settings, {"containers": stack}, secrets=given))
    assert verbs(of(piece, "postgres_password")) == ["secret", "postgres_password"]
    assert verbs(of(piece, "redis_password")) == ["secret"]


def test_a_lowered_counter_changes_nothing_and_is_not_forgotten() -> None:
    piece = secrets.compare(context({}, lying(), record=recorded(jwt_secret=4)))
    assert not of(piece, "jwt_secret").pending
    assert piece.record["secrets"]["jwt_secret"]["rotation"] == 4


@pytest.mark.parametrize(
    ("state", "paths"),
    [
        (lying(folder_mode="0755"), {"postgres_password": ["folder_mode"]}),
        (lying(mode="0644"), {name: ["mode"] for name in NAMES}),
    ],
)
def test_rights_that_somebody_changed_are_put_back(
    state: dict[str, Any], paths: dict[str, list[str]]
) -> None:
    piece = secrets.compare(context({}, state, record=recorded()))
    found = {
        resource.id.removeprefix("secret:"): [change.path for change in resource.changes]
        for resource in piece.resources
        if resource.pending
    }
    assert found == paths
    changed = [resource for resource in piece.resources if resource.pending]
    assert {resource.origin for resource in changed} == {Origin.HOST}
    assert {verb for resource in changed for verb in verbs(resource)} == {"secret"}
    assert not any("rotate" in effect or "value" in effect for part in changed for effect in part.effects)


def test_the_auth_file_of_redis_is_made_again() -> None:
    state = lying()
    del state["secrets"]["values"]["redis_auth.conf"]
    resource = of(secrets.compare(context({}, state, record=recorded())), "redis_password")
    assert [(change.path, change.before) for change in resource.changes] == [("redis_auth.conf", "absent")]
    assert resource.effects == ({"do": "secret", "name": "redis_password", "length": 32},)


def test_a_gemini_key_is_there_only_if_it_is_given_and_goes_when_it_is_not() -> None:
    settings = {"secrets": {"gemini_api_key": GIVEN}}
    piece = secrets.compare(context(settings, lying(), secrets={"gemini_api_key": "key-of-gemini"}))
    assert of(piece, "gemini_api_key").action is Action.CREATE
    state = lying(gemini_api_key="key-of-gemini")
    gone = of(secrets.compare(context({}, state, record=piece.record)), "gemini_api_key")
    assert gone.action is Action.REMOVE
    assert gone.effects == (
        {"do": "remove_file", "path": f"{ROOT}/secrets/gemini_api_key", "expect": None, "backup": False},
    )
    assert "gemini_api_key" not in str(secrets.compare(context({}, lying())).record)


def test_without_docker_there_is_nothing_to_guard() -> None:
    assert secrets.compare(context({"docker": {"enabled": False}})).resources == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": "unreadable"}, "cannot be read as a folder"),
        ({"folder_uid": 0}, "belongs to another user (uid 0)"),
        ({"values": {name: {"status": "other"} for name in NAMES}}, "no regular file"),
    ],
)
def test_a_folder_that_is_not_ours_is_refused(change: dict[str, Any], says: str) -> None:
    state = lying()
    state["secrets"] |= change
    piece = secrets.compare(context({}, state))
    for resource in piece.resources:
        assert resource.refused is not None
        assert says in resource.refused.message
        assert resource.refused.hint.endswith("then plan again.")
        assert resource.effects == ()
