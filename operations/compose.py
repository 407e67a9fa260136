"""The Compose stack: volumes that calm only ever makes, and services that it updates or recreates."""

from __future__ import annotations

from operations._resource import converge_all


def volumes() -> None:
    """Make the volumes that are not there. No volume is ever removed."""
    converge_all(("volume",))


def services() -> None:
    """Bring each service to its image, limits and running values, dependencies first, health awaited.

    A remove takes the network that calm had made for them, too.
    """
    converge_all(("service", "network"))
