from typing import Any

import pytest
import yaml

from calm.desired.app_yaml import endpoint
from calm.drift import app_yaml
from calm.drift.model import Action, Context, Origin, Resource
from tests.unit.drift.states import DIGEST_KEY, absent, context, file, odd

PATH = "/home/ada/calm/app.yaml"
MINE = """\
corrections: {enabled: true}  # 교정
llm:
  enabled: true
  provider: local_proxy   # ours
  model: qwen
  endpoint: http://localhost:8080/v1/chat/completions
  request_timeout: 120
  connection_pool_size: 5
  max_retries: 2
  retry_backoff_ms: 1000
  fallbacks:
    - provider: gemini
      model: gemini-flash  # cheap
    - provider: openai
evaluation:
    depth:   3
"""


def at(entry: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> Context:
    return context(settings, {"files": {app_yaml.ID: entry}}, **more)


def compared(entry: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> Resource:
    return app_yaml.compare(at(entry, settings, **more)).resources[0]


def mended(resource: Resource) -> dict[str, Any]:
    return file(PATH, resource.effects[-1]["content"])


@pytest.mark.parametrize("parent_exists", [True, False])
def test_a_new_file_is_the_template_with_lm_studio_as_provider(parent_exists: bool) -> None:
    resource = compared(absent(PATH, parent_exists=parent_exists))
    assert (resource.action, resource.origin) == (Action.CREATE, Origin.NEW)
    *folder, write = resource.effects
    assert [effect["path"] for effect in folder] == ([] if parent_exists else ["/home/ada/calm"])
    assert {key: write[key] for key in ("do", "path", "mode", "expect")} == {
        "do": "write",
        "path": PATH,
        "mode": "0644",
        "expect": "absent",
    }
    assert yaml.safe_load(write["content"]) == {
        "llm": {
            "enabled": True,
            "provider": "lmstudio",
            "model": "local-model",
            "endpoint": "http://127.0.0.1:1234/v1/chat/completions",
            "request_timeout": 30,
            "connection_pool_size": 5,
            "max_retries": 2,
            "retry_backoff_ms": 1000,
            "fallbacks": [{"provider": "gemini"}, {"provider": "ollama"}],
        }
    }
    assert "request_timeout: 30 " in write["content"]


def test_an_empty_file_counts_as_absent_but_keeps_its_mode_and_owner() -> None:
    entry = file(PATH, "\n", mode="0600")
    (write,) = compared(entry).effects
    assert write["keep"] is True
    assert write["expect"] == entry["sha256"]
    assert yaml.safe_load(write["content"])["llm"]["provider"] == "lmstudio"


def test_a_missing_folder_elsewhere_means_a_wrong_path() -> None:
    resource = compared(absent("/srv/ap/app.yaml", parent_exists=False))
    assert resource.refused is not None
    assert resource.refused.message == "/srv/ap/app.yaml lies in a folder that does not exist."
    assert "correct the path" in resource.refused.hint


def test_a_lost_file_was_the_hosts_doing() -> None:
    record = {"documents": app_yaml.compare(at(absent(PATH))).record}
    assert compared(absent(PATH), record=record).origin is Origin.HOST


def test_only_the_declared_keys_change_and_provider_model_and_end_point_stay() -> None:
    resource = compared(file(PATH, MINE))
    expected = MINE.replace("request_timeout: 120", "request_timeout: 30").replace(
        "    - provider: openai\n", "    - provider: ollama\n"
    )
    (write,) = resource.effects
    assert write["content"] == expected
    assert (write["keep"], write["unmask"], write["digest_key"]) == (True, True, DIGEST_KEY)
    assert [change.path for change in resource.changes] == ["llm.request_timeout", "llm.fallbacks"]
    assert resource.diff is not None
    assert "-  request_timeout: 120\n+  request_timeout: 30\n" in resource.diff


@pytest.mark.parametrize(
    "text", [MINE, "corrections: 1\n", "llm:\n", "# only words\n", "llm: {provider: x}\n"]
)
def test_a_second_look_finds_nothing(text: str) -> None:
    first = app_yaml.compare(at(file(PATH, text)))
    again = app_yaml.compare(at(mended(first.resources[0]), record={"documents": first.record}))
    assert not again.resources[0].pending
    assert again.record == first.record


def test_what_apply_wrote_into_a_new_file_is_no_drift() -> None:
    first = app_yaml.compare(at(absent(PATH)))
    again = app_yaml.compare(at(mended(first.resources[0]), record={"documents": first.record}))
    assert not again.resources[0].pending


def test_a_section_that_was_missing_is_filled_as_in_a_new_file() -> None:
    (write,) = compared(file(PATH, "corrections: 1\n")).effects
    assert write["content"].startswith("corrections: 1\nllm:\n")
    assert yaml.safe_load(write["content"])["llm"]["endpoint"].endswith(":1234/v1/chat/completions")


def test_what_settings_name_takes_the_place_of_what_is_there() -> None:
    settings = {
        "llm": {"provider": "lmstudio", "model": "google/gemma: 3", "endpoint": "http://[::1]:1/v1?a=1&b=2"}
    }
    (write,) = compared(file(PATH, MINE), settings).effects
    llm = yaml.safe_load(write["content"])["llm"]
    assert (llm["provider"], llm["model"], llm["endpoint"]) == tuple(settings["llm"].values())
    assert "provider: lmstudio   # ours" in write["content"]


def test_a_fallback_keeps_what_the_file_says_beside_ours() -> None:
    settings = {"llm": {"fallbacks": [{"provider": "ollama", "model": "phi"}, {"provider": "gemini"}]}}
    (write,) = compared(file(PATH, MINE), settings).effects
    assert yaml.safe_load(write["content"])["llm"]["fallbacks"] == [
        {"provider": "ollama", "model": "phi"},
        {"provider": "gemini", "model": "gemini-flash"},
    ]
    assert "model: gemini-flash  # cheap" in write["content"]


def test_no_fallbacks_are_an_empty_list() -> None:
    (write,) = compared(absent(PATH), {"llm": {"fallbacks": []}}).effects
    assert yaml.safe_load(write["content"])["llm"]["fallbacks"] == []


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ({"port": 4321}, "http://127.0.0.1:4321/v1/chat/completions"),
        ({"bind": "0.0.0.0"}, "http://127.0.0.1:1234/v1/chat/completions"),
        ({"bind": "192.168.1.5"}, "http://192.168.1.5:1234/v1/chat/completions"),
        ({"bind": "::1"}, "http://[::1]:1234/v1/chat/completions"),
    ],
)
def test_the_end_point_is_lm_studios_own(server: dict[str, Any], url: str) -> None:
    assert endpoint(context({"lmstudio": {"server": server}}).settings) == url


def test_a_changed_setting_and_a_changed_host_are_told_apart() -> None:
    first = app_yaml.compare(at(file(PATH, MINE)))
    record = {"documents": first.record}
    text = first.resources[0].effects[0]["content"].replace("max_retries: 2", "max_retries: 9")
    assert compared(file(PATH, text), record=record).origin is Origin.HOST
    settings = {"llm": {"request_timeout": 60}}
    assert compared(mended(first.resources[0]), settings, record=record).origin is Origin.SETTINGS
    assert compared(file(PATH, text), settings, record=record).origin is Origin.BOTH


def test_a_key_of_the_application_is_neither_shown_nor_lost() -> None:
    text = MINE.replace("  model: qwen\n", "  model: qwen\n  api_key: sk-not-to-be-seen-0123\n")
    entry = file(PATH, text)
    resource = compared(entry)
    placeholder = entry["content"].partition("api_key: ")[2].split("\n")[0]
    assert placeholder.startswith("calm-masked-")
    assert f"api_key: {placeholder}\n" in resource.effects[0]["content"]
    assert "sk-not-to-be-seen" not in str(resource)
    assert "calm-masked" not in str(resource.diff)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (odd(PATH, "link"), "symbolic link"),
        (odd(PATH, "folder"), "is a folder"),
        (odd(PATH, "other"), "no regular file"),
        (odd(PATH, "unreadable"), "cannot be read"),
        (odd(PATH, "leads_out"), "leads out"),
        (odd(PATH, "file"), "not UTF-8"),
        (file(PATH, "llm: [\n"), "not valid YAML"),
        (file(PATH, "- llm\n"), "a list at its top"),
        (file(PATH, "llm: 5\n"), "is not a mapping"),
        (file(PATH, "a: 1\n---\nb: 1\n"), "2 YAML documents"),
        (file(PATH, "llm:\n  a: 1\n  a: 2\n"), "twice"),
        ({**file(PATH, MINE), "writable": False}, "cannot be written to"),
        ({**absent(PATH), "writable": False}, "cannot be written to"),
    ],
)
def test_a_file_that_cannot_be_merged_into_is_refused_and_left_alone(
    entry: dict[str, Any], says: str
) -> None:
    resource = compared(entry)
    assert resource.refused is not None
    assert says in resource.refused.message
    assert PATH in resource.refused.message
    assert resource.refused.hint.endswith("then plan again.")
    assert (resource.action, resource.effects) == (Action.NONE, ())
