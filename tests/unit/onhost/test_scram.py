"""What postgres keeps of a password: compared with passwords, in every form that it may have."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("kept", "password", "known"),
    [
        ("", "pencil", False),
        (None, "pencil", None),
        (SCRAM, "pencil\u00e9", None),
        ("SCRAM-SHA-256$4096:W$W:W", "pencil", None),
        ("SCRAM-SHA-512$4096:W22Z$W22Z:W22Z", "pencil", None),
    ],
    ids=["no password", "unreadable", "beyond ASCII", "broken", "of another kind"],
)
def test_what_cannot_be_told_is_not_guessed(kept: str | None, password: str, known: bool | None) -> None:
    assert scram.is_of(kept, "user", password) is known
