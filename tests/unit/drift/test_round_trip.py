"""Probe, compare, carry out, probe again: on real files, with the code that travels to a host."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from calm.drift import app_yaml, documents, lmstudio
from calm.drift.host import merged
from calm.drift.model import Action, Context, Piece
from calm.onhost import effect, probe
from calm.settings import Settings

KEY = "3c" * 32
TOKEN = "hf_AbCdEf0123456789abcdef"
APP = """\
corrections:   # 교정
    enabled:   true
llm:
  provider: local_proxy
  api_key: "sk-live-0123456789abcdef"   # never shown
  request_timeout: 120
  fallbacks:
    - provider: gemini
      api_key: AIza-0123456789abcdef
"""
LM_STUDIO = f"""{{
  "autoLoadBundledLLM": true,
  "hfDownloadToken": "{TOKEN}",
  "developer": {{ "jitModelTTL": {{ "enabled": false, "ttlSeconds": 60 }} }}
}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    home = tmp_path / "lmstudio"
    home.mkdir()
    return Settings.model_validate({"root": str(tmp_path / "calm"), "lmstudio": {"home": str(home)}})


def look(settings: Settings, record: dict[str, Any] | None = None) -> tuple[Context, list[Piece]]:
    request: dict[str, Any] = {"schema": 1, "root": settings.root, "digest_key": KEY}
    for piece in (documents, lmstudio):
        request = merged(request, piece.request(settings))
    state = probe.read(request)
    context = Context(settings=settings, state=state, record=record or {}, secrets={}, digest_key=KEY)
    return context, [piece.compare(context) for piece in (documents, lmstudio)]


def converge(settings: Settings) -> list[str]:
    """Carries out every effect; returns the failures."""
    _, pieces = look(settings)
    effects = [dict(step) for piece in pieces for resource in piece.resources for step in resource.effects]
    run = {"id": "1f", "who": f"test@here pid {os.getpid()}"}
    results = effect.carry_out(
        {"schema": 1, "root": settings.root, "run": run, "digest_key": KEY, "effects": effects}
    )
    return [result["message"] for result in results if result["status"] == "failed"]


def pending(settings: Settings) -> list[str]:
    _, pieces = look(settings)
    return [resource.id for piece in pieces for resource in piece.resources if resource.pending]


def test_an_empty_host_is_converged_and_then_nothing_is_left(settings: Settings) -> None:
    assert converge(settings) == []
    assert pending(settings) == []
    assert Path(settings.root, "docker", "docker-compose.yml").is_file()
    assert Path(settings.root, "app.yaml").read_text().startswith("# calm keeps these keys")


def test_foreign_files_keep_their_secrets_their_bytes_and_their_modes(settings: Settings) -> None:
    root, home = Path(settings.root), Path(str(settings.lmstudio.home))
    root.mkdir()
    (root / "app.yaml").write_text(APP)
    (root / "app.yaml").chmod(0o640)
    (home / "settings.json").write_text(LM_STUDIO)
    _, pieces = look(settings)
    assert not any(secret in str(pieces) for secret in (TOKEN, "sk-live", "AIza"))
    assert converge(settings) == []
    assert pending(settings) == []
    text = (root / "app.yaml").read_text()
    assert text.startswith(APP.partition("  request_timeout")[0])
    assert "    - provider: gemini\n      api_key: AIza-0123456789abcdef\n    - provider: ollama\n" in text
    assert stat.S_IMODE((root / "app.yaml").stat().st_mode) == 0o640
    expected = LM_STUDIO.replace("true,", "false,", 1).replace('"enabled": false', '"enabled": true')
    assert (home / "settings.json").read_text() == expected.replace('"ttlSeconds": 60', '"ttlSeconds": 3600')


def test_a_file_that_changed_since_the_plan_is_not_overwritten(settings: Settings) -> None:
    root = Path(settings.root)
    root.mkdir()
    (root / "app.yaml").write_text(APP)
    _, (piece, _) = look(settings)
    steps = [dict(step) for part in piece.resources if part.id == app_yaml.ID for step in part.effects]
    (root / "app.yaml").write_text(APP + "# meanwhile\n")
    run = {"id": "1f", "who": f"test@here pid {os.getpid()}"}
    (result,) = effect.carry_out({"schema": 1, "root": settings.root, "run": run, "effects": steps})
    assert result["status"] == "failed"
    assert "has changed since" in result["message"]
    assert (root / "app.yaml").read_text() == APP + "# meanwhile\n"


@pytest.mark.parametrize("name", ["docker/docker-compose.yml", "docker/redis.conf"])
def test_drift_of_each_kind_in_an_owned_document_is_mended(
    settings: Settings, name: str, tmp_path: Path
) -> None:
    converge(settings)
    path = Path(settings.root, name)
    whole = path.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine\n")

    def linked() -> None:
        path.unlink()
        path.symlink_to(elsewhere)

    for damage, action in (
        (lambda: path.write_bytes(whole + b"# mine\n"), Action.UPDATE),
        (path.unlink, Action.CREATE),
        (lambda: path.write_bytes(b""), Action.CREATE),
        (lambda: path.chmod(0o666), Action.UPDATE),
        (linked, Action.UPDATE),
    ):
        damage()
        _, (piece, _) = look(settings)
        assert [part.action for part in piece.resources if part.pending] == [action]
        assert converge(settings) == []
        assert pending(settings) == []
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(whole).digest()
    assert elsewhere.read_bytes() == b"mine\n"


def test_a_link_in_the_place_of_a_merged_document_is_refused_and_stays(
    settings: Settings, tmp_path: Path
) -> None:
    root = Path(settings.root)
    root.mkdir()
    (tmp_path / "app.yaml").write_text(APP)
    (root / "app.yaml").symlink_to(tmp_path / "app.yaml")
    assert converge(settings) == []
    assert pending(settings) == [app_yaml.ID]
    assert (tmp_path / "app.yaml").read_text() == APP
