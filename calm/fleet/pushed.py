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

_OTHER_USER = ("_sudo", "_su_user", "_doas", "_dzdo")


def is_here(host: Host) -> bool:
    """Whether commands for ``host`` run on this machine as whoever runs this process."""
    return isinstance(host.connector, LocalConnector) and not any(host.data.get(way) for way in _OTHER_USER)


def python(host: Host) -> str:
    """The interpreter, as a word of a shell's command line."""
    return shlex.quote(sys.executable) if is_here(host) else "python3"


def payload(host: Host, name: str, request: dict[str, Any]) -> Payload:
    """The script ``name`` with its request, for that interpreter's stdin."""
    return Payload(script(name, request, here=is_here(host)))
