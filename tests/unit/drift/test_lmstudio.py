import json
from typing import Any

import pytest

from calm.drift import lmstudio
from calm.drift.model import Action, Origin, Piece, Resource
from calm.settings import Settings
from tests.unit.drift.states import DIGEST_KEY, absent, context, file, odd

HOME = "/home/ada/.lmstudio"
SETTINGS = f"{HOME}/settings.json"
SERVER = f"{HOME}/.internal/http-server-config.json"

USUAL = {
    "enableLocalService": True,
    "autoLoadBundledLLM": True,
    "downloadsFolder": "/home/ada/모델",
    "developer": {
        "unloadPreviousJITModelOnLoad": True,
        "jitModelTTL": {"enabled": False, "ttlSeconds": 3600},
        "attemptedInstallLmsCliOnStartup": True,
    },
    "modelLoadingGuardrails": {"mode": "low", "customThresholdBytes": 1},
    "defaultContextLength": {"type": "max"},
}
SERVING = {
    "autoStartOnLaunch": True,
    "port": 1234,
    "cors": True,
    "networkInterface": "0.0.0.0",
    "justInTimeModelLoading": True,
    "logIncomingTokens": False,
}


def text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def found(
    settings: dict[str, Any] | None = None, server: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "lmstudio": {
            "status": "found",
            "home": HOME,
            "generation": "new",
            "version": "0.4.7",
            "running": False,
            "pids": [],
            "settings": settings or file(SETTINGS, text(USUAL)),
            "server": server or file(SERVER, text(SERVING)),
            "warning": None,
            **more,
        }
    }


def of(piece: Piece, name: str) -> Resource:
    return next(resource for resource in piece.resources if resource.id == f"document:lmstudio-{name}")


def paths(resource: Resource) -> dict[str, tuple[Any, Any]]:
    return {change.path: (change.before, change.after) for change in resource.changes}


def test_the_probe_is_asked_for_the_home_and_the_executables() -> None:
    settings = Settings.model_validate({"lmstudio": {"home": "/opt/lm", "executables": ["/opt/x"]}})
    asked = {"enabled": "auto", "home": "/opt/lm", "executables": ["/opt/x"]}
    assert lmstudio.request(settings) == {"lmstudio": asked}


def test_nothing_loads_by_itself_and_what_loads_on_demand_leaves_again() -> None:
    piece = lmstudio.compare(context({}, found()))
    assert paths(of(piece, "settings")) == {
        "autoLoadBundledLLM": (True, False),
        "developer.jitModelTTL.enabled": (False, True),
    }
    assert paths(of(piece, "server")) == {"cors": (True, False), "networkInterface": ("0.0.0.0", "127.0.0.1")}
    assert {resource.action for resource in piece.resources} == {Action.UPDATE}
    assert {resource.kind for resource in piece.resources} == {"lmstudio"}
    assert of(piece, "settings").origin is Origin.NEW


def test_the_write_keeps_all_other_bytes_and_names_what_plan_saw() -> None:
    before = file(SETTINGS, text(USUAL))
    (effect,) = of(lmstudio.compare(context({}, found(before))), "settings").effects
    expected = text(USUAL).replace('"autoLoadBundledLLM": true', '"autoLoadBundledLLM": false')
    assert effect == {
        "do": "write",
        "path": SETTINGS,
        "content": expected.replace('"enabled": false', '"enabled": true'),
        "keep": True,
        "unmask": True,
        "digest_key": DIGEST_KEY,
        "expect": before["sha256"],
        "backup": True,
    }


def test_a_second_look_finds_nothing() -> None:
    first = lmstudio.compare(context({}, found()))
    mended = [file(part.effects[0]["path"], part.effects[0]["content"]) for part in first.resources]
    again = lmstudio.compare(context({}, found(*mended), record=first.record))
    assert [resource.pending for resource in again.resources] == [False, False]
    assert again.record == first.record


def test_the_record_tells_who_moved() -> None:
    first = lmstudio.compare(context({}, found()))
    host = lmstudio.compare(context({}, found(), record=first.record))
    assert of(host, "settings").origin is Origin.HOST
    both = lmstudio.compare(context({"lmstudio": {"jit": {"ttl_seconds": 60}}}, found(), record=first.record))
    origins = {change.path: change.origin for change in of(both, "settings").changes}
    assert origins["developer.jitModelTTL.ttlSeconds"] is Origin.SETTINGS
    assert of(both, "settings").origin is Origin.BOTH


@pytest.mark.parametrize(
    ("settings", "path", "change"),
    [
        ({"start_at_login": False}, "enableLocalService", (True, False)),
        ({"guardrails": "high"}, "modelLoadingGuardrails.mode", ("low", "high")),
        ({"context_length": 8192}, "defaultContextLength.value", (None, 8192)),
    ],
)
def test_what_settings_name_is_set_and_else_left(settings: dict[str, Any], path: str, change: Any) -> None:
    assert path not in paths(of(lmstudio.compare(context({}, found())), "settings"))
    assert paths(of(lmstudio.compare(context({"lmstudio": settings}, found())), "settings"))[path] == change


def test_keys_that_this_version_does_not_have_are_not_added_and_that_is_said() -> None:
    old = file(SERVER, text({"port": 1234, "cors": False, "networkInterface": "127.0.0.1"}))
    piece = lmstudio.compare(context({}, found(server=old, version=None)))
    assert not of(piece, "server").pending
    (note,) = piece.notes
    assert "autoStartOnLaunch (lmstudio.server.autostart)" in note
    assert "justInTimeModelLoading (lmstudio.jit.enabled)" in note


def test_raw_keys_are_merged_as_they_are() -> None:
    settings = {"lmstudio": {"settings": {"newKey": {"a": 1}}, "server_config": {"cors": True}}}
    piece = lmstudio.compare(context(settings, found()))
    assert paths(of(piece, "settings"))["newKey.a"] == (None, 1)
    assert "cors" not in paths(of(piece, "server"))


def test_a_token_in_the_file_is_neither_shown_nor_lost() -> None:
    before = file(SETTINGS, text({**USUAL, "hfSearchToken": "hf_0123456789abcdef"}))
    resource = of(lmstudio.compare(context({}, found(before))), "settings")
    assert "hf_0123456789abcdef" not in str(resource)
    assert (
        before["content"].count("calm-masked-") == resource.effects[0]["content"].count("calm-masked-") == 1
    )
    assert "calm-masked-" not in str(resource.diff)


def test_a_token_from_the_settings_is_in_the_write_alone() -> None:
    token = "hf_0123456789abcdef"
    settings = {"lmstudio": {"settings": {"hfSearchToken": token}}}
    piece = lmstudio.compare(
        context(settings, found(file(SETTINGS, text({**USUAL, "hfSearchToken": "hf_old-one-000"}))))
    )
    resource = of(piece, "settings")
    assert token in resource.effects[0]["content"]
    assert token not in str(resource.diff) + str([change.to_json() for change in resource.changes]) + str(
        piece.record
    )
    mended = file(SETTINGS, text({**USUAL, "hfSearchToken": token}))
    again = of(lmstudio.compare(context(settings, found(mended))), "settings")
    assert "hfSearchToken" not in paths(again)


def test_a_change_while_it_runs_waits_for_the_next_start() -> None:
    resource = of(lmstudio.compare(context({}, found(running=True, pids=[7]))), "settings")
    assert "takes effect at its next start" in str(resource.note)
    assert [effect["do"] for effect in resource.effects] == ["write"]


def test_with_restart_it_is_stopped_for_the_change_and_started_again_whatever_happens() -> None:
    settings = {"lmstudio": {"restart": True}}
    resource = of(lmstudio.compare(context(settings, found(running=True, pids=[7]))), "settings")
    stop, write, start = resource.effects
    assert stop == {"do": "lmstudio", "action": "stop", "home": HOME, "deadline_s": 60}
    assert write["do"] == "merge_json"
    assert start == {"do": "lmstudio", "action": "start", "home": HOME, "deadline_s": 60, "always": True}


def test_it_is_not_stopped_for_nothing() -> None:
    settings = {"lmstudio": {"restart": True}}
    first = lmstudio.compare(context(settings, found()))
    assert [effect["do"] for effect in of(first, "settings").effects] == ["write"]
    mended = [file(part.effects[0]["path"], part.effects[0]["content"]) for part in first.resources]
    again = lmstudio.compare(context(settings, found(*mended, running=True)))
    assert [resource.effects for resource in again.resources] == [(), ()]


@pytest.mark.parametrize(
    ("settings", "state", "reason"),
    [
        ({}, {"lmstudio": {"status": "absent"}}, "not installed"),
        ({"lmstudio": {"enabled": False}}, found(), "lmstudio.enabled is false"),
        ({"lmstudio": {"enabled": False}}, {"lmstudio": None}, "lmstudio.enabled is false"),
        ({}, found(absent(SETTINGS), absent(SERVER)), "start LM Studio once"),
        ({}, found(file(SETTINGS, ""), file(SERVER, " \n")), "start LM Studio once"),
    ],
)
def test_what_is_left_out_and_why(settings: dict[str, Any], state: dict[str, Any], reason: str) -> None:
    piece = lmstudio.compare(context(settings, state))
    assert piece.resources == ()
    assert [left.id for left in piece.left_out] == ["document:lmstudio-settings", "document:lmstudio-server"]
    assert all(reason in left.reason for left in piece.left_out)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (odd(SETTINGS, "link"), "symbolic link"),
        (odd(SETTINGS, "folder"), "folder"),
        (odd(SETTINGS, "other"), "no regular file"),
        (odd(SETTINGS, "unreadable"), "cannot be read"),
        (odd(SETTINGS, "leads_out"), "leads out"),
        (odd(SETTINGS, "file"), "not UTF-8"),
        (file(SETTINGS, "{not json"), "not valid JSON"),
        (file(SETTINGS, "[1]"), "a list"),
        (file(SETTINGS, '{"developer": {"x": 1, "x": 2}}'), "stands in it twice"),
        ({**file(SETTINGS, text(USUAL)), "writable": False}, "cannot be written to"),
    ],
)
def test_a_file_that_cannot_be_merged_into_is_refused_and_left_alone(
    entry: dict[str, Any], says: str
) -> None:
    refused = of(lmstudio.compare(context({}, found(entry))), "settings")
    assert refused.refused is not None
    assert says in refused.refused.message
    assert SETTINGS in refused.refused.message
    assert refused.refused.hint.endswith("then plan again.")
    assert refused.effects == ()


def test_lm_studio_that_must_be_there_and_is_not_is_refused() -> None:
    piece = lmstudio.compare(context({"lmstudio": {"enabled": True}}))
    assert all(part.refused and "Install LM Studio" in part.refused.hint for part in piece.resources)
    assert len(piece.resources) == 2


def test_two_settings_files_are_called_out() -> None:
    piece = lmstudio.compare(context({}, found(warning="LM Studio has settings in two places")))
    assert piece.notes[0] == "LM Studio has settings in two places"
