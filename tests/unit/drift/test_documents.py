import hashlib
import json
from typing import Any

import pytest

from calm.desired.documents import owned, paths
from calm.drift import documents
from calm.drift.model import Action, Context, Origin, Piece, Resource
from calm.settings import Settings
from tests.unit.drift.states import ROOT, absent, context, file, odd

COMPOSE = "document:compose"
SETTINGS = "document:settings.json"


def host(
    settings: dict[str, Any] | None = None, entries: dict[str, Any] | None = None, **more: Any
) -> Context:
    """A host on which each document is as it should be, but for ``entries``."""
    bare = context(settings, **more)
    there = {
        document.id: file(document.path, document.content, mode=document.mode) for document in owned(bare)
    }
    there["document:app.yaml"] = absent(f"{ROOT}/app.yaml")
    return context(settings, {"files": {**there, **(entries or {})}}, **more)


def of(piece: Piece, identity: str = COMPOSE) -> Resource:
    return next(resource for resource in piece.resources if resource.id == identity)


def wanted(identity: str = COMPOSE, settings: dict[str, Any] | None = None) -> Any:
    return next(document for document in owned(context(settings)) if document.id == identity)


def test_the_probe_is_asked_for_each_document() -> None:
    asked = documents.request(Settings.model_validate({"llm": {"app_yaml": "/srv/app.yaml"}}))["documents"]
    assert asked["document:app.yaml"] == {"path": "/srv/app.yaml"}
    assert asked[COMPOSE] == {"path": "docker/docker-compose.yml"}
    assert asked.keys() >= paths(Settings()).keys() >= {"document:redis.conf", SETTINGS}


def test_on_a_new_host_each_is_made_with_its_folder() -> None:
    entries = {document.id: absent(document.path, parent_exists=False) for document in owned(context())}
    piece = documents.compare(host(entries=entries))
    assert {resource.action for resource in piece.resources} == {Action.CREATE}
    assert {resource.origin for resource in piece.resources} == {Origin.NEW}
    folder, write = of(piece).effects
    assert folder == {"do": "folder", "path": f"{ROOT}/docker", "mode": "0755"}
    assert write == {
        "do": "write",
        "path": f"{ROOT}/docker/docker-compose.yml",
        "content": wanted().content,
        "mode": wanted().mode,
        "expect": "absent",
        "backup": True,
        "replace_link": True,
    }
    assert of(piece).needs == wanted().needs
    assert str(of(piece).diff).startswith(f"--- /dev/null\n+++ {ROOT}/docker/docker-compose.yml\n")


def test_what_is_as_it_should_be_is_left_alone() -> None:
    piece = documents.compare(host())
    assert [resource.id for resource in piece.resources if resource.pending] == ["document:app.yaml"]
    recorded = piece.record["documents"][COMPOSE]
    assert recorded["sha256"] == hashlib.sha256(wanted().content.encode()).hexdigest()
    assert recorded["path"] == f"{ROOT}/docker/docker-compose.yml"


@pytest.mark.parametrize(
    ("change", "path", "before"),
    [
        ({"mode": "0666"}, "mode", "0666"),
        ({"uid": 0}, "owner", 0),
        ({"status": "link", "sha256": None, "content": None}, "status", "link"),
    ],
)
def test_each_field_that_somebody_changed_is_named(change: dict[str, Any], path: str, before: Any) -> None:
    record = documents.compare(host()).record
    entry = {**file(wanted().path, wanted().content, mode=wanted().mode), **change}
    resource = of(documents.compare(host(entries={COMPOSE: entry}, record=record)))
    assert (resource.action, resource.origin) == (Action.UPDATE, Origin.HOST)
    assert [(item.path, item.before) for item in resource.changes] == [(path, before)]
    assert resource.effects[-1]["expect"] == (entry["sha256"] or "link")


def test_an_edited_line_is_shown_and_put_back() -> None:
    record = documents.compare(host()).record
    text = wanted().content + "# mine\n"
    resource = of(documents.compare(host(entries={COMPOSE: file(wanted().path, text)}, record=record)))
    assert (resource.action, resource.origin) == (Action.UPDATE, Origin.HOST)
    assert [item.path for item in resource.changes] == ["content"]
    assert "\n-# mine\n" in str(resource.diff)
    assert resource.effects[0]["content"] == wanted().content
    assert resource.effects[0]["expect"] == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_counts_as_absent(text: str) -> None:
    record = documents.compare(host()).record
    resource = of(documents.compare(host(entries={COMPOSE: file(wanted().path, text)}, record=record)))
    assert (resource.action, resource.origin) == (Action.CREATE, Origin.HOST)


def test_a_changed_setting_and_a_changed_host_are_told_apart() -> None:
    record = documents.compare(host()).record
    settings = {"docker": {"redis": {"memory": "1G"}}}
    old = file(wanted().path, wanted().content)
    edited = file(wanted().path, wanted().content + "# mine\n")
    changed = documents.compare(host(settings, {COMPOSE: old}, record=record))
    assert of(changed).origin is Origin.SETTINGS
    both = documents.compare(host(settings, {COMPOSE: edited}, record=record))
    assert of(both).origin is Origin.BOTH


def test_a_document_that_is_not_wanted_any_more_is_taken_away_as_calm_left_it() -> None:
    gone = {"path": f"{ROOT}/docker/old.conf", "sha256": "ab" * 32, "mode": "0644"}
    merged = {"path": "/srv/app.yaml", "values": {"llm.max_retries": 2}}
    record = {"documents": {"document:old.conf": gone, "document:former": merged, "document:lost": None}}
    piece = documents.compare(host(record=record))
    resource = of(piece, "document:old.conf")
    assert resource.action is Action.REMOVE
    assert resource.effects == ({"do": "remove_file", "path": gone["path"], "expect": gone["sha256"]},)
    assert {"document:former", "document:lost"}.isdisjoint(resource.id for resource in piece.resources)
    assert "document:old.conf" not in piece.record["documents"]


def test_the_agents_settings_hold_no_secret_and_load_again() -> None:
    settings = {"secrets": {"jwt_secret": {"env": "JWT"}}}
    content = json.loads(wanted(SETTINGS, settings).content)
    assert "secrets" not in content
    assert Settings.model_validate(content, strict=False).docker.project == "agent-system"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (odd(wanted().path, "folder"), "is a folder"),
        (odd(wanted().path, "other"), "no regular file"),
        (odd(wanted().path, "unreadable"), "cannot be read"),
        (odd(wanted().path, "leads_out"), "leads out of the root"),
        ({**absent(wanted().path), "writable": False}, "cannot be written to"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused_and_left_alone(entry: dict[str, Any], says: str) -> None:
    resource = of(documents.compare(host(entries={COMPOSE: entry})))
    assert resource.refused is not None
    assert says in resource.refused.message
    assert resource.refused.hint.endswith("then plan again.")
    assert (resource.action, resource.effects) == (Action.NONE, ())


@pytest.mark.parametrize(
    ("environment", "mode"), [({"LOG_LEVEL": "DEBUG"}, "0644"), ({"OPENAI_API_KEY": "sk-1"}, "0600")]
)
def test_a_compose_file_with_the_users_own_secret_is_closed(environment: Any, mode: str) -> None:
    settings = {"docker": {"agent_api": {"environment": environment}}}
    modes = {document.id: document.mode for document in owned(context(settings))}
    assert modes.pop("document:compose") == mode
    assert set(modes.values()) == {"0644"}, "redis and the relay read theirs as users of their own"


def test_a_read_only_folder_is_no_matter_where_nothing_has_to_change() -> None:
    entry = {**file(wanted().path, wanted().content, mode=wanted().mode), "writable": False}
    assert not of(documents.compare(host(entries={COMPOSE: entry}))).pending
