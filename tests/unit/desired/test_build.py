"""The build context that travels to the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from calm.desired import build
from calm.desired.documents import owned, paths
from calm.settings.problems import SettingsError
from tests.unit.drift.stack_states import bare, settings


def folder(where: Path) -> Path:
    (where / "app").mkdir(parents=True)
    (where / "Dockerfile").write_text("FROM scratch\n")
    (where / "app" / "main.py").write_text("print()\n")
    (where / ".git").mkdir()
    (where / ".git" / "config").write_text("no\n")
    return where


def test_the_files_travel_as_owned_documents(tmp_path: Path) -> None:
    wanted = settings(agent_api={"image": None, "build": str(folder(tmp_path))})
    assert build.context(wanted) == {"Dockerfile": "FROM scratch\n", "app/main.py": "print()\n"}
    assert paths(wanted)["document:agent_api/app/main.py"] == "docker/agent_api/app/main.py"
    document = next(one for one in owned(bare(wanted)) if one.id == "document:agent_api/app/main.py")
    assert document.content == "print()\n"


def test_an_image_needs_no_context() -> None:
    assert build.context(settings()) == {}


def test_the_tag_follows_the_content() -> None:
    assert build.tag("p", {"a": "1"}) == build.tag("p", {"a": "1"})
    assert build.tag("p", {"a": "1"}) != build.tag("p", {"a": "2"})
    assert build.tag("p", {"a": "1", "b": ""}) != build.tag("p", {"a": "1"})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda where: (where / "Dockerfile").unlink(), "no Dockerfile"),
        (lambda where: (where / "logo.png").write_bytes(b"\xff\xfe\x00"), "not UTF-8"),
        (lambda where: (where / "big").write_text("x" * (build.MOST_BYTES + 1)), "too large"),
    ],
)
def test_what_cannot_travel_is_said(tmp_path: Path, spoil: object, says: str) -> None:
    where = folder(tmp_path)
    spoil(where)  # type: ignore[operator]
    with pytest.raises(SettingsError, match=says):
        build.context(settings(agent_api={"image": None, "build": str(where)}))


def test_the_documents_come_before_the_file_that_names_them() -> None:
    ids = [one.id for one in owned(bare())]
    assert ids == ["document:redis.conf", "document:compose", "document:settings.json"]
