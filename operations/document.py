"""Documents: the files that calm owns, and its part of the files that somebody else owns."""

from __future__ import annotations

from operations._resource import converge_all


def secrets() -> None:
    """Make the secrets that are missing, take over those that are there, rotate those that are due."""
    converge_all(("secret",))


def documents() -> None:
    """Write each document that differs: whole and atomically, after a backup."""
    converge_all(("document",))
