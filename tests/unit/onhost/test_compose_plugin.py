"""The version of Docker Compose: asked of a plugin once, and anew when another file lies there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from calm.onhost.dockerstate import compose_plugin


def install(folder: Path, version: str) -> Path:
    """A plugin that counts how often it is started."""
    path = folder / "cli-plugins" / "docker-compose"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(f'#!/bin/sh\necho >> "{folder}/started"\necho \'{{"Version": "{version}"}}\'\n')
    new.chmod(0o755)
    new.replace(path)
    return path


def started(folder: Path) -> int:
    """How often it was started so far."""
    file = folder / "started"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def test_a_plugin_that_is_known_is_not_started(folder: Path) -> None:
    path = install(folder, "v2.29.1")
    first = compose_plugin({})
    again = compose_plugin(first)
    assert first == again
    assert (first["path"], first["version"]) == (str(path), "2.29.1")
    assert started(folder) == 1


def test_another_plugin_in_its_place_is_asked(folder: Path) -> None:
    path = install(folder, "v2.29.1")
    first, times = compose_plugin({}), path.stat()
    install(folder, "v2.30.3")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert compose_plugin(first)["version"] == "2.30.3"
    assert started(folder) == 2


def test_what_is_noted_of_another_file_counts_for_nothing(folder: Path) -> None:
    install(folder, "v2.29.1")
    noted = compose_plugin({}) | {"path": "/usr/libexec/docker/cli-plugins/docker-compose", "version": "9.9"}
    assert compose_plugin(noted)["version"] == "2.29.1"
    assert compose_plugin({"path": None, "stamp": None, "version": "9.9"})["version"] == "2.29.1"


def test_one_that_is_gone_is_not_remembered(folder: Path) -> None:
    path = install(folder, "v2.29.1")
    first = compose_plugin({})
    path.unlink()
    assert compose_plugin(first)["path"] != str(path)
