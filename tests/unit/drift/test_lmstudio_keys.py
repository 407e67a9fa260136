import json
from typing import Any

import pytest

from calm.desired.templates import render
from calm.drift.lmstudio_keys import SERVER_KEYS, SETTINGS_KEYS, Key, known, version_of
from calm.drift.merge import leaves
from calm.settings import Settings

EVERYTHING = {"lmstudio": {"start_at_login": False, "guardrails": "high", "context_length": 8192}}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.4.7", (0, 4, 7)),
        ("0.4.7+4", (0, 4, 7)),
        ("0.0.14-2", (0, 0, 14)),
        ("", None),
        (None, None),
        ("x", None),
    ],
)
def test_versions_as_lm_studio_writes_them(text: str | None, version: tuple[int, ...] | None) -> None:
    assert version_of(text) == version


@pytest.mark.parametrize(
    ("template", "table"),
    [("lmstudio/settings.json.j2", SETTINGS_KEYS), ("lmstudio/http-server-config.json.j2", SERVER_KEYS)],
)
def test_each_key_of_a_template_is_in_the_table_and_each_setting_is_one(
    template: str, table: tuple[Key, ...]
) -> None:
    settings = Settings.model_validate(EVERYTHING).lmstudio
    fragment = json.loads(render(template, lmstudio=settings))
    declared, unknown = known(fragment, table, {}, (9,))
    assert declared == fragment
    assert not unknown
    for key in table:
        value: Any = settings
        for name in key.setting.split("."):
            value = getattr(value, name)
        assert value in [inner for keys, inner in leaves(fragment) if keys[: len(key.keys)] == key.keys]


def test_a_null_leaves_the_value_as_it_is() -> None:
    fragment = {"autoLoadBundledLLM": None, "defaultContextLength": {"type": None, "value": None}}
    assert known(fragment, SETTINGS_KEYS, {"autoLoadBundledLLM": True}, (9,)) == ({}, ())


@pytest.mark.parametrize(
    ("present", "version", "added"),
    [
        ({}, (0, 3, 9), True),
        ({}, (0, 3, 8), False),
        ({}, None, False),
        ({"developer": {}}, None, False),
        ({"developer": {"jitModelTTL": None}}, None, True),
        ({"developer": {"jitModelTTL": {"enabled": False}}}, (0, 3, 1), True),
    ],
)
def test_a_key_is_set_where_the_file_has_it_or_the_version_knows_it(
    present: dict[str, Any], version: tuple[int, ...] | None, added: bool
) -> None:
    fragment = {"developer": {"jitModelTTL": {"enabled": True, "ttlSeconds": 60}}}
    declared, unknown = known(fragment, SETTINGS_KEYS, present, version)
    assert declared == (fragment if added else {})
    assert [key.path for key in unknown] == ([] if added else ["developer.jitModelTTL"])
