"""Secrets are made once, kept, put right, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from calm.onhost.masking import Masker
from tests.unit.onhost.pushed import KEY, effect, probe, push, statuses


def secret(name: str = "jwt_secret", **more: object) -> dict[str, object]:
    return {"do": "secret", "name": name, **more}


def test_made_once_with_256_bits_and_kept(tmp_path: Path) -> None:
    assert statuses(effect(tmp_path, secret())) == ["done"]
    value = (tmp_path / "secrets/jwt_secret").read_text()
    assert len(value) == 43
    assert statuses(effect(tmp_path, secret())) == ["unchanged"]
    assert (tmp_path / "secrets/jwt_secret").read_text() == value
    assert statuses(effect(tmp_path, secret(rotate=True))) == ["done"]
    assert (tmp_path / "secrets/jwt_secret").read_text() != value


def test_the_folder_is_the_guard(tmp_path: Path) -> None:
    effect(tmp_path, secret())
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets/jwt_secret").stat().st_mode & 0o777 == 0o444
    (tmp_path / "secrets").chmod(0o755)
    (tmp_path / "secrets/jwt_secret").chmod(0o644)
    assert statuses(effect(tmp_path, secret())) == ["done"]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets/jwt_secret").stat().st_mode & 0o777 == 0o444


def test_redis_gets_its_own_file_and_it_is_put_right(tmp_path: Path) -> None:
    effect(tmp_path, secret("redis_password", value='with "quotes" and \\'))
    auth = tmp_path / "secrets/redis_auth.conf"
    assert auth.read_text() == 'requirepass "with \\"quotes\\" and \\\\"\n'
    auth.unlink()
    assert statuses(effect(tmp_path, secret("redis_password"))) == ["done"]
    assert auth.exists()


def test_a_given_value_wins_and_shows_nowhere(tmp_path: Path) -> None:
    effect(tmp_path, secret())
    request = {
        "root": str(tmp_path),
        "effects": [secret(value="g1ven-value"), {"do": "run", "argv": ["false"]}],
    }
    done = push("effect", request)
    assert (tmp_path / "secrets/jwt_secret").read_text() == "g1ven-value"
    assert "g1ven-value" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden"])
def test_names_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    assert "is no name for a secret" in effect(tmp_path, secret(name))[0]["message"]


def test_a_line_break_is_refused_without_showing_the_value(tmp_path: Path) -> None:
    [result] = effect(tmp_path, secret(value="two\nlines"))
    assert "line break" in result["message"]
    assert "two" not in result["message"]


def test_a_link_in_place_of_a_secret_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/jwt_secret").symlink_to("../elsewhere")
    assert statuses(effect(tmp_path, secret())) == ["done"]
    assert not (tmp_path / "secrets/jwt_secret").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "theirs"


def test_a_secrets_folder_that_is_a_link_out_is_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "calm", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "secrets").symlink_to(outside)
    assert statuses(effect(root, secret())) == ["failed"]
    assert list(outside.iterdir()) == []


def test_the_probe_tells_digests_alone(tmp_path: Path) -> None:
    effect(tmp_path, secret(value="g1ven-value"))
    names = ["jwt_secret", "redis_password"]
    found = probe(tmp_path, secrets=names)["secrets"]
    assert found["folder_mode"] == "0700"
    assert found["values"]["jwt_secret"] == {
        "status": "file",
        "mode": "0444",
        "digest": Masker(KEY).digest("g1ven-value"),
        "bytes": 11,
    }
    assert found["values"]["redis_password"]["status"] == "absent"
    done = push("probe", {"root": str(tmp_path), "secrets": names, "digest_key": KEY})
    assert "g1ven-value" not in done.stdout


def test_the_same_values_as_variables_that_compose_reads_back(tmp_path: Path) -> None:
    effect(tmp_path, secret("jwt_secret", value='a"b$c\\d'), secret("redis_password", value="plain"))
    variables = tmp_path / "secrets/agent_api.env"
    assert variables.read_text() == 'JWT_SECRET="a\\"b\\$c\\\\d"\nREDIS_PASSWORD="plain"\n'
    assert variables.stat().st_mode & 0o777 == 0o444
    variables.unlink()
    assert statuses(effect(tmp_path, secret("jwt_secret"))) == ["done"]
    assert variables.exists()
