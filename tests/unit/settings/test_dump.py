from __future__ import annotations

import json
from typing import Any

import pytest

from calm.settings import Settings
from calm.settings.dump import MASK, to_json
from calm.settings.load import Layer, load

WRITTEN: dict[str, Any] = {
    "docker": {
        "redis": {"memory": "768M", "persistence": "none"},
        "services": {
            "nginx": {"environment": {"API_TOKEN": "hunter2", "MODE": "x"}, "ports": ["8080:80"]},
            "words": {"command": ["redis-server", "--requirepass", "hunter2", "--port", "7000"]},
            "text": {"command": "serve --password hunter2 --api-key=hunter2 --port 7000"},
            "mine": {"environment": ["API_TOKEN=hunter2", "URL=postgres://me:hunter2@db/x", "MODE=x"]},
        },
        "agent_api": {"environment": {"SMTP_PASSWORD": "hunter2", "DEBUG": False}},
    },
    "lmstudio": {"settings": {"hfSearchToken": "hunter2", "list": [{"secret": "hunter2"}]}},
    "secrets": {"redis_password": {"env": "REDIS"}, "rotate": {"jwt_secret": 2}},
    "schedules": {"jobs": {"prune": {"every": "2h"}, "mine": {"at": "boot", "run": "check"}}},
    "healing": {"rules": {"junk": "off"}, "watched": [{"name": "x"}]},
}


def test_what_is_written_down_is_read_again_as_it_was() -> None:
    settings = load([Layer(source="a", data=WRITTEN)], host="here")
    text = json.dumps(to_json(settings, mask=False))
    again = load([Layer(source="file", data=json.loads(text))], host="here")
    assert again == settings.model_copy(update={"secrets": Settings().secrets})


def test_sizes_and_durations_are_written_for_people() -> None:
    data = to_json(Settings())
    assert data["docker"]["redis"]["memory"] == "512M"
    assert data["healing"]["prune"]["older_than"] == 604800


def test_no_secret_is_written_down() -> None:
    data = to_json(load([Layer(source="a", data=WRITTEN)], host="here"))
    assert "secrets" not in data
    assert "hunter2" not in json.dumps(data)
    assert data["docker"]["services"]["nginx"]["environment"] == {"API_TOKEN": MASK, "MODE": "x"}
    assert data["docker"]["services"]["words"]["command"][2:] == [MASK, "--port", "7000"]
    assert data["docker"]["services"]["text"]["command"] == (
        f"serve --password {MASK} --api-key={MASK} --port 7000"
    )
    assert data["docker"]["services"]["mine"]["environment"] == [
        f"API_TOKEN={MASK}",
        f"URL=postgres://me:{MASK}@db/x",
        "MODE=x",
    ]
    assert data["docker"]["agent_api"]["environment"] == {"SMTP_PASSWORD": MASK, "DEBUG": "false"}
    assert data["docker"]["agent_api"]["secrets_as"] == "files"


def test_masked_settings_are_settings_still() -> None:
    masked = to_json(load([Layer(source="a", data=WRITTEN)], host="here"))
    assert to_json(load([Layer(source="file", data=masked)], host="here")) == masked


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().docker.redis.port = 1  # type: ignore[misc]
