from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from calm.settings import Settings
from calm.settings.explain import plain
from calm.settings.reference import json_schema, main, page, stale, write
from calm.settings.schedules import Job


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in plain(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from sections(inner)


def test_the_page_and_the_schema_are_up_to_date() -> None:
    assert stale() == [], "run python -m calm.settings.reference --write"


def test_every_setting_has_a_default_and_says_what_it_means() -> None:
    fields = [
        (model, name, field) for model in sections(Settings) for name, field in model.model_fields.items()
    ]
    assert len(fields) > 150
    assert [
        (model, name) for model, name, field in fields if not field.description or field.is_required()
    ] == []


def test_every_key_is_on_the_page() -> None:
    text = page()
    missing = [name for model in sections(Settings) for name, field in model.model_fields.items()
               if (field.alias or name) not in text]  # fmt: skip
    assert missing == []
    assert all(f"| `{name}` |" in text for name in Job.model_fields)


def test_the_schema_takes_what_people_write() -> None:
    text = json.dumps(json_schema())
    assert '"additionalProperties": false' in text
    assert json_schema()["$defs"]["Redis"]["properties"]["memory"]["anyOf"][1]["type"] == "string"
    assert json_schema()["$defs"]["Junk"]["anyOf"][0]["enum"] == ["act", "report", "off"]


def test_files_that_are_missing_or_changed_are_named(tmp_path: Path) -> None:
    assert stale(tmp_path) == ["settings.md", "settings.schema.json"]
    write(tmp_path)
    assert stale(tmp_path) == []
    (tmp_path / "settings.md").write_text("edited", encoding="utf-8")
    assert stale(tmp_path) == ["settings.md"]


@pytest.mark.parametrize(("arguments", "code"), [(["--check"], 0), ([], 64), (["--chekc"], 64)])
def test_the_command_says_by_its_exit_code(arguments: list[str], code: int) -> None:
    assert main(arguments) == code
