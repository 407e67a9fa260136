"""Whether a user's systemd takes calls, told by its socket: a real one, a dead one, none, and one too far."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from calm.onhost.schedules import user_manager_listens


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short path, as every socket wants one, wherever the folders of tests lie."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    with tempfile.TemporaryDirectory(prefix="calm-", dir="/tmp") as folder:
        yield _folder(Path(folder, "run"), monkeypatch)


def _folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    (path / "systemd").mkdir(parents=True)
    return path


def test_one_that_listens(runtime: Path) -> None:
    with socket.socket(socket.AF_UNIX) as private:
        private.bind(str(runtime / "systemd" / "private"))
        assert not user_manager_listens(), "nobody listens yet"
        private.listen()
        assert user_manager_listens()
    assert not user_manager_listens(), "its socket is left behind"


def test_none_at_all(runtime: Path) -> None:
    assert list((runtime / "systemd").iterdir()) == []
    assert not user_manager_listens()


def test_a_path_that_no_socket_has(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = _folder(runtime / ("x" * 60) / ("y" * 60), monkeypatch)
    assert len(str(far)) > 107
    assert not user_manager_listens()


def test_no_systemctl_to_call_it_with(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as private:
        private.bind(str(runtime / "systemd" / "private"))
        private.listen()
        monkeypatch.setenv("PATH", str(runtime))
        assert not user_manager_listens()
