"""Scheduled jobs and the supervised ``calm watch``, on the scheduler that the host has."""

from __future__ import annotations

from operations._resource import converge_all


def jobs() -> None:
    """Install, enable, mend and remove what calm owns in the host's scheduler."""
    converge_all(("schedule",))
