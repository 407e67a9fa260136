"""LM Studio's home and files, found and read without writing."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from calm.health import home


def write(path: Path, content: object) -> None:
    """A file with JSON in it, and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_the_pointer_says_where_it_is(tmp_path: Path) -> None:
    write(tmp_path / ".lmstudio-home-pointer", "/srv/models/lmstudio\n")

    assert home.find(user_home=tmp_path) == Path("/srv/models/lmstudio")


@pytest.mark.parametrize(("made", "found"), [(".cache/lm-studio", ".cache/lm-studio"), ("x", ".lmstudio")])
def test_without_a_pointer_the_old_folder_goes_first_and_none_is_written(
    tmp_path: Path, made: str, found: str
) -> None:
    (tmp_path / made).mkdir(parents=True)

    assert home.find(user_home=tmp_path) == tmp_path / found
    assert not (tmp_path / ".lmstudio-home-pointer").exists()


def test_a_configured_home_goes_before_all(tmp_path: Path) -> None:
    write(tmp_path / ".lmstudio-home-pointer", "/elsewhere")

    assert home.find(str(tmp_path / "mine"), user_home=tmp_path) == tmp_path / "mine"


def test_what_its_files_say(tmp_path: Path) -> None:
    internal = tmp_path / ".internal"
    write(internal / "http-server-config.json", {"port": 4321, "networkInterface": "0.0.0.0"})
    write(internal / "http-server.json", {"host": "127.0.0.1", "pid": 77, "port": 41343})
    write(
        internal / "app-install-location.json", {"path": "/opt/LM Studio/lm-studio", "argv": [], "cwd": "/"}
    )
    write(internal / "historical-version-info.json", {"lastRecorderdAppVersion": "0.4.7"})
    write(tmp_path / "settings.json", {"developer": {"jitModelTTL": {"enabled": True, "ttlSeconds": 900}}})

    read = home.read(tmp_path, user_home=tmp_path, default_port=1234)

    assert read.exists
    assert (read.url, read.control_pid, read.control_port) == ("http://127.0.0.1:4321", 77, 41343)
    assert read.executables == ("/opt/LM Studio/lm-studio",)
    assert (read.version, read.jit_ttl_seconds) == ("0.4.7", 900.0)


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"port": "many", "networkInterface": 7}', "\x00"])
def test_garbage_is_as_good_as_nothing(tmp_path: Path, garbage: str) -> None:
    for name in ("http-server-config.json", "http-server.json", "app-install-location.json"):
        write(tmp_path / ".internal" / name, garbage)

    read = home.read(tmp_path, user_home=tmp_path, default_port=1234)

    assert read.url == "http://127.0.0.1:1234"
    assert (read.control_pid, read.executables) == (None, ())


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the old place is another one there")
def test_the_older_generation_keeps_its_settings_elsewhere(tmp_path: Path) -> None:
    settings = {"developer": {"jitModelTTL": {"enabled": True, "ttlSeconds": 60}}}
    write(tmp_path / ".config" / "LM Studio" / "settings.json", settings)

    assert home.read(tmp_path / ".lmstudio", user_home=tmp_path).jit_ttl_seconds == 60.0


def test_a_ttl_that_is_off_is_none(tmp_path: Path) -> None:
    write(tmp_path / "settings.json", {"developer": {"jitModelTTL": {"enabled": False, "ttlSeconds": 60}}})

    assert home.read(tmp_path, user_home=tmp_path).jit_ttl_seconds is None


def test_the_newest_chat_of_the_window(tmp_path: Path) -> None:
    assert home.newest_conversation(tmp_path) is None
    for name, age in (("old.json", 500), ("folder/new.json", 20)):
        write(tmp_path / "conversations" / name, {})
        os.utime(tmp_path / "conversations" / name, (0, time.time() - age))

    assert home.newest_conversation(tmp_path) == pytest.approx(time.time() - 20, abs=5)
