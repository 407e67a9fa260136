"""The keys of a login by SCRAM-SHA-256 (RFC 5802 and 7677): what a password and a salt come to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import NamedTuple

ITERATIONS = 4096
"""As postgres itself has them."""


_KEPT = re.compile(r"SCRAM-SHA-256\$([1-9]\d{0,5}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):[A-Za-z0-9+/=]+")


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


def is_of(kept: str | None, user: str, password: str) -> bool | None:
    """Whether what postgres keeps of the role's password is of this one; None if that cannot be told.

    ``kept`` is ``pg_authid.rolpassword``: empty for no password, ``md5`` and a hash, or what SCRAM needs.
    https://www.postgresql.org/docs/current/catalog-pg-authid.html
    """
    if not kept:
        return False if kept == "" else None
    if kept.startswith("md5"):
        told = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
        return hmac.compare_digest(kept[3:].encode(), told.encode())
    parts = _KEPT.fullmatch(kept)
    if parts is None or not password.isascii():
        return None
    try:
        salt, expected = base64.b64decode(parts[2]), base64.b64decode(parts[3])
    except ValueError:
        return None
    return hmac.compare_digest(expected, keys(password.encode(), salt, int(parts[1])).stored)
