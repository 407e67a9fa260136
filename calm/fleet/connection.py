"""What calm wants of a connection beyond what pyinfra does by itself.

Strict host keys, an end to every wait, no needless delay, and a plain word for why there is none.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from paramiko import SSHException

from calm.fleet.board import HostError
from calm.fleet.targets import InventoryError

if TYPE_CHECKING:
    from pyinfra.api import Host, State

CONNECT_SECONDS = 10
"""How long a host may take for each step of a connection: TCP, the server's greeting, the login."""

PROBE_SECONDS = 60
"""How long a host may take to say what it is like."""

SILENCE_SECONDS = 30
"""After how long without an answer a connection counts as lost."""

SPARE_FILES = 64
"""Open files beside one for each host."""

_IDLE_SECONDS, _PAUSE_SECONDS, _TRIES = 10, 5, 4

_PATIENCE = {
    "banner_timeout": CONNECT_SECONDS,
    "auth_timeout": CONNECT_SECONDS,
    "channel_timeout": CONNECT_SECONDS,
}

_OPTIONS = (
    # paramiko leaves Nagle's algorithm on, which costs 40 ms per command.
    ("TCP_NODELAY", 1),
    # A cut line is found out while a command is silent (the first three) and while one is sent.
    ("TCP_KEEPIDLE", _IDLE_SECONDS),
    ("TCP_KEEPINTVL", _PAUSE_SECONDS),
    ("TCP_KEEPCNT", _TRIES),
    ("TCP_USER_TIMEOUT", SILENCE_SECONDS * 1000),
)


def make_room(number: int) -> None:
    """Let this process have as many files open as connections to ``number`` hosts want.

    Raises:
        InventoryError: this system does not let it.
    """
    try:
        import resource
    except ImportError:  # a system that counts in another way
        return
    wanted = number + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):
        raise InventoryError(
            f"{number} hosts at once want as many open files, and this user may have {hard}. "
            "Take a group at a time with --limit, raise `ulimit -Hn`, or let the hosts pull: see docs/how-to."
        ) from None


def prepare(state: State) -> None:
    """Give every host of ``state`` the defaults that calm has in the place of pyinfra's own.

    pyinfra accepts the key of a host that it sees for the first time, and ignores an ssh_config that says
    otherwise (3.10.0, ``connectors/ssh.py``). Here a key has to be known, unless the inventory says so.
    """
    for host in state.inventory:
        data = getattr(host.connector, "data", None)
        if not isinstance(data, dict) or "ssh_hostname" not in data:
            continue
        if host.data.get("ssh_strict_host_key_checking") is None:
            data["ssh_strict_host_key_checking"] = "yes"
        data["ssh_paramiko_connect_kwargs"] = _PATIENCE | (data.get("ssh_paramiko_connect_kwargs") or {})


def settle(host: Host) -> None:
    """Set the options of a host's socket, if it has one of its own (behind a jump host it has not)."""
    channel = getattr(_transport(host), "sock", None)
    if not isinstance(channel, socket.socket):
        return
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        option = getattr(socket, name, None)  # not every system has them all
        if option is not None:
            channel.setsockopt(socket.IPPROTO_TCP, option, value)


def logs_in(host: Host) -> bool:
    """Whether the keys of this connection are agreed on, so that the login is what comes next."""
    return bool(getattr(_transport(host), "initial_kex_done", False))


def answers(host: Host) -> bool:
    """Whether ``host`` answers over the connection that there is; true for hosts that are reached without."""
    transport = _transport(host)
    if transport is None:
        return True
    try:
        transport.open_session(timeout=CONNECT_SECONDS).close()
    except (EOFError, OSError, SSHException):
        return False
    return True


def reason(host: Host, error: Exception) -> HostError:
    """Why ``host`` could not be reached, and what helps."""
    said = str(error.args[0]) if error.args else type(error).__name__
    name = _address(host)
    for sign, code, message, hint in _REASONS:
        if sign in said:
            return HostError(code=code, message=message.format(name=name), hint=hint.format(name=name))
    return HostError(
        code="unreachable",
        message=f"{name} cannot be reached: {_inner(said)}.",
        hint=f"Check that it is up and that `ssh {name}` reaches it; the others were not held up.",
    )


def lost(host: Host, what: str) -> HostError:
    """The connection to ``host`` broke off in the middle of ``what``."""
    return HostError(
        code="lost",
        message=f"The connection to {_address(host)} broke off during {what}.",
        hint="What was running there may have ended or not. Its lock frees itself within two minutes, or by "
        "`calm unlock`; then apply again, which goes on from what it finds.",
    )


def stuck(host: Host, what: str, waited_s: float) -> HostError:
    """``host`` takes commands, but ``what`` has come to no end there."""
    return HostError(
        code="stuck",
        message=f"{what} on {_address(host)} came to no end within {waited_s:.0f} s, so it was given up.",
        hint="It may still run there: look for `python3 -I -` and for disks that do not answer. Then free "
        "the lock (`calm unlock`) and apply again, which goes on from what it finds.",
    )


def _address(host: Host) -> str:
    data = getattr(host.connector, "data", None) or {}
    return data.get("ssh_hostname") or host.name


def _inner(said: str) -> str:
    """The cause in pyinfra's ``Could not connect ([Errno 113] No route to host)``."""
    inner = said.partition("(")[2].removesuffix(")") if said.endswith(")") else said
    return (inner or said).partition("] ")[2] or inner or said


def _transport(host: Host) -> Any:
    client = getattr(host.connector, "client", None)
    return None if client is None else client.get_transport()


_REASONS = (
    (
        "does not match",
        "host_key",
        "The host key of {name} is another one than before, so nothing was sent there.",
        (
            "Was the machine installed anew? `ssh-keygen -R {name}`, then `ssh {name}` once and compare the "
            "fingerprint. If it was not, somebody may be listening in between."
        ),
    ),
    (
        "No host key for",
        "host_key",
        "The host key of {name} is not known on this machine, so nothing was sent there.",
        (
            "`ssh {name}` once and compare the fingerprint; or say ssh_strict_host_key_checking = "
            '"accept-new" in the inventory to trust a host at first sight.'
        ),
    ),
    (
        "Authentication error",
        "login",
        "{name} refuses the login.",
        "Check ssh_user and ssh_key in the inventory: `ssh {name}` has to work without a question.",
    ),
    (
        "EOF error",
        "host_key",
        "The way to {name} asks a question that nobody is there to answer.",
        "`ssh {name}` once by hand: most likely the key of its jump host is not known on this machine.",
    ),
    (
        "Could not resolve hostname",
        "unreachable",
        "There is no address for {name}.",
        "Check the spelling in the inventory, or give its address as ssh_hostname.",
    ),
    (
        "timed out",
        "unreachable",
        f"{{name}} gave no answer within {CONNECT_SECONDS} s.",
        "Check that it is up and that `ssh {name}` reaches it; the others were not held up.",
    ),
)
