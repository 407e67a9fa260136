"""What of a container's command line leaves its host."""

from __future__ import annotations

import pytest

from calm.onhost.masking import PLACEHOLDER, Masker, arguments


@pytest.mark.parametrize("password", ["another-secret", "postgres", "short", "A9$k-long-enough-value"])
@pytest.mark.parametrize("option", ["--requirepass", "--masterauth", "-a"])
def test_a_password_is_hidden_by_its_place_however_plain(option: str, password: str) -> None:
    shown = arguments(["redis-server", option, password, "--save", ""], Masker("00" * 32))
    assert shown[:2] == ["redis-server", option]
    assert shown[2].startswith(PLACEHOLDER)
    assert shown[3:] == ["--save", ""]


def test_what_is_no_secret_stays() -> None:
    words = ["postgres", "-c", "max_connections=50", "--appendonly", "yes"]
    assert arguments(words, Masker("00" * 32)) == words
    assert arguments(None, Masker("00" * 32)) == []
