"""The keys of a login by SCRAM-SHA-256 (RFC 5802 and 7677): what a password and a salt come to."""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

ITERATIONS = 4096
"""As postgres itself has them."""


class Keys(NamedTuple):
    """``client`` proves that somebody knows the password, ``server`` that the server does.

    ``stored`` is what the server keeps in place of ``client``.
    """

    client: bytes
    stored: bytes
    server: bytes


def keys(password: bytes, salt: bytes, iterations: int = ITERATIONS) -> Keys:
    """The keys of a password, which has to be plain ASCII or normalised already."""
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    client = mac(salted, b"Client Key")
    return Keys(client, hashlib.sha256(client).digest(), mac(salted, b"Server Key"))


def mac(key: bytes, text: bytes) -> bytes:
    """HMAC with SHA-256."""
    return hmac.new(key, text, hashlib.sha256).digest()
