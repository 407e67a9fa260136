"""Where on a host a schedule lives: what renderers need to know beside the schedule itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Place:
    """``root`` is calm's folder on the host, ``home`` the user's, both absolute.

    ``scope`` chooses systemd's manager (``system`` or ``user``). ``user`` is the name that Task Scheduler
    runs it as (``DOMAIN\\name``).
    """

    root: str
    home: str
    scope: str = "system"
    user: str | None = None
