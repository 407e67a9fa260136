"""What the agent that a checkout would install is made of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calm import release

CHECKOUT = Path(__file__).resolve().parent.parent.parent


def copy(folder: Path) -> Path:
    for name in ("pyproject.toml", release.REQUIREMENTS, "README.md"):
        shutil.copy(CHECKOUT / name, folder / name)
    shutil.copytree(CHECKOUT / "calm", folder / "calm", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_fingerprint_is_that_of_the_sources(tmp_path: Path) -> None:
    there = copy(tmp_path)
    before = release.fingerprint(there)
    assert release.fingerprint(there) == before
    (there / "README.md").write_text("other words")
    assert release.fingerprint(there) == before
    (there / "calm" / "py.py").write_text("")
    assert release.fingerprint(there) != before


def test_the_wheel_is_built_and_holds_calm_alone(tmp_path: Path) -> None:
    import io
    import zipfile

    name, content = release.wheel(copy(tmp_path))
    assert name.startswith("calm_stack-")
    top = {entry.split("/")[0] for entry in zipfile.ZipFile(io.BytesIO(content)).namelist()}
    assert {part for part in top if not part.endswith(".dist-info")} == {"calm"}


def test_a_checkout_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    there = copy(tmp_path)
    (there / "README.md").unlink()
    with pytest.raises(release.ReleaseError, match=r"README\.md"):
        release.wheel(there)


def test_a_wheelhouse_is_sent_whole_and_an_empty_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(release.ReleaseError, match="no wheels"):
        release.wheels(tmp_path)
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "note.txt").write_text("no wheel")
    assert release.wheels(tmp_path) == [("a-1-py3-none-any.whl", b"wheel")]


def test_what_the_agent_depends_on_is_pinned_with_hashes_and_names_no_host() -> None:
    text = release.requirements(CHECKOUT)
    assert "httpx==" in text
    assert "--hash=sha256:" in text
    assert "://" not in text
