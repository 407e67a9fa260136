"""Which Python a host runs calm's scripts with, and what is handed to it.

On this very machine, and as this very user, it is the Python that runs calm now: nothing has to travel, and
the modules lie compiled on the disk. Everywhere else it is the host's own ``python3``.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from pyinfra.connectors.local import LocalConnector

from calm.fleet.payload import Payload
from calm.onhost import script

if TYPE_CHECKING:
    from pyinfra.api.host import Host

_FOR_ALL = ("SUDO", "SU_USER", "DOAS", "DZDO")
"""What pyinfra's own command line and configuration set for every host."""


def becomes(host: Host) -> tuple[str, str] | None:
    """By which way and as which user commands run there, where the inventory asks for another one."""
    for way in ("sudo", "doas", "dzdo", "su"):
        user = host.data.get(f"_{way}_user")
        if host.data.get(f"_{way}") or (way == "su" and user):
            return way, user or "root"
    return None


def is_here(host: Host) -> bool:
    """Whether commands for ``host`` run on this machine as whoever runs this process."""
    if not isinstance(host.connector, LocalConnector) or becomes(host) is not None:
        return False
    return not any(getattr(host.state.config, name, None) for name in _FOR_ALL)


def python(host: Host) -> str:
    """The interpreter, as a word of a shell's command line."""
    return shlex.quote(sys.executable) if is_here(host) else "python3"


def payload(host: Host, name: str, request: dict[str, Any]) -> Payload:
    """The script ``name`` with its request, for that interpreter's stdin."""
    return Payload(script(name, request, here=is_here(host)))
