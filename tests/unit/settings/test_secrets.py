from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calm.settings import Settings
from calm.settings.load import SettingsError
from calm.settings.secrets import looks_secret, resolve


def given(**sources: Any) -> Settings:
    return Settings.model_validate({"secrets": sources})


def test_nothing_given_is_nothing_to_resolve() -> None:
    assert resolve(Settings(), environ={"POSTGRES_PASSWORD": "not asked for"}) == {}


def test_values_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    path = tmp_path / "redis"
    path.write_text("from the file\n", encoding="utf-8")
    settings = given(postgres_password={"env": "PG"}, redis_password={"file": str(path)})
    assert resolve(settings, environ={"PG": "from the environment"}) == {
        "postgres_password": "from the environment",
        "redis_password": "from the file",
    }


def test_a_file_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text("k\r\n", encoding="utf-8", newline="")
    assert resolve(given(gemini_api_key={"file": "~/key"})) == {"gemini_api_key": "k"}


def test_every_secret_that_is_missing_is_named_and_none_is_shown(tmp_path: Path) -> None:
    two_lines = tmp_path / "two"
    two_lines.write_text("hunter2\nsecond", encoding="utf-8")
    settings = given(
        postgres_password={"env": "PG"},
        redis_password={"file": str(tmp_path / "absent")},
        jwt_secret={"file": str(two_lines)},
        gemini_api_key={"env": "EMPTY"},
    )
    with pytest.raises(SettingsError) as caught:
        resolve(settings, environ={"EMPTY": ""})
    assert str(caught.value).splitlines() == [
        "calm.secrets.postgres_password: the environment variable PG is not set; set it where calm runs",
        (
            f"calm.secrets.redis_password: the file {tmp_path / 'absent'} cannot be read: No such "
            "file or directory"
        ),
        f"calm.secrets.jwt_secret: the file {two_lines} holds more than one line of printable text",
        "calm.secrets.gemini_api_key: the environment variable EMPTY is empty",
    ]
    assert "hunter2" not in repr(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read: it is not UTF-8 text"):
        resolve(given(jwt_secret={"file": str(path)}))


@pytest.mark.parametrize(
    "key",
    [
        "POSTGRES_PASSWORD",
        "jwt_secret",
        "hfSearchToken",
        "apiKey",
        "api-key",
        "passwd",
        "requirepass",
        "MY_KEY",
    ],
)
def test_a_secret_is_known_by_its_key(key: str) -> None:
    assert looks_secret(key)


@pytest.mark.parametrize(
    "key", ["LOG_LEVEL", "port", "keyboard", "monkey", "DATABASE_POOL_SIZE", "passenger"]
)
def test_other_keys_look_harmless(key: str) -> None:
    assert not looks_secret(key)
