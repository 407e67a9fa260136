"""What postgres keeps of a password: compared with passwords, in every form that it may have."""

from __future__ import annotations

import hashlib

import pytest

from calm.onhost import scram
from calm.onhost.server_effects import verifier

# As postgres 15 keeps "pencil" of the role "user"; RFC 7677 has the same keys with this salt.
SCRAM = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


@pytest.mark.parametrize("kept", [SCRAM, verifier("pencil")], ids=["postgres' own", "ours"])
def test_a_password_is_known_by_what_scram_needs(kept: str) -> None:
    assert scram.is_of(kept, "user", "pencil") is True
    assert scram.is_of(kept, "user", "pencils") is False


def test_a_password_is_known_by_an_old_hash() -> None:
    kept = "md5" + hashlib.md5(b"penci\xc3\xa9user").hexdigest()
    assert scram.is_of(kept, "user", "penci\u00e9") is True
    assert scram.is_of(kept, "other", "penci\u00e9") is False


@pytest.mark.parametrize(
    ("kept", "password", "known"),
    [
        ("", "pencil", False),
        (None, "pencil", None),
        (SCRAM, "pencil\u00e9", None),
        ("SCRAM-SHA-256$4096:W$W:W", "pencil", None),
        (SCRAM.replace("$4096", "$0"), "pencil", None),
        (SCRAM.replace("$4096", "$9999999"), "pencil", None),
        ("md5\u00e9", "pencil", False),
        ("SCRAM-SHA-512$4096:W22Z$W22Z:W22Z", "pencil", None),
    ],
    ids=["no password", "unreadable", "beyond ASCII", "broken", "no rounds", "endless", "no hash",
         "of another kind"],
)  # fmt: skip
def test_what_cannot_be_told_is_not_guessed(kept: str | None, password: str, known: bool | None) -> None:
    assert scram.is_of(kept, "user", password) is known
