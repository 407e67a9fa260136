"""The Docker Engine's API over its socket, with a time limit for every call.

Asking the socket costs a millisecond where the ``docker`` command costs fifty. What only the command can
reach (SSH, TLS, Windows' named pipe) is reached through ``docker system dial-stdio``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import struct
import time
from typing import IO, Any, Callable, Iterator, Mapping, NamedTuple

from calm.onhost import http1
from calm.onhost.errors import EngineRefusalError, UnavailableError
from calm.onhost.programs import docker_command

CALL_SECONDS = 10.0
"""How long a call may take unless its caller says otherwise."""

_START = "start it (Docker Desktop, or `systemctl start docker`) and run again"
_JOIN = "add the user to the group docker (`sudo usermod -aG docker $USER`, then log in again) or run as root"


class Endpoint(NamedTuple):
    """Where the engine listens: ``kind`` is ``unix``, ``tcp`` or ``command``."""

    kind: str
    address: str


class Exec(NamedTuple):
    """What a command in a container said."""

    code: int
    out: str
    err: str


def find_endpoint(environ: Mapping[str, str] = os.environ) -> Endpoint | None:
    """The engine that the ``docker`` command of this user would talk to, else a socket in a usual place."""
    configured = environ.get("DOCKER_HOST") or _of_context(environ)
    if configured:
        return _parsed(configured, secured=bool(environ.get("DOCKER_TLS_VERIFY")))
    for path in _usual_sockets(environ):
        if os.path.exists(path):
            return Endpoint("unix", path)
    return Endpoint("command", "default") if os.name == "nt" and docker_command(environ) else None


def _parsed(url: str, *, secured: bool) -> Endpoint:
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        return Endpoint("unix", rest)
    if scheme == "tcp" and not secured:
        return Endpoint("tcp", rest.rstrip("/"))
    return Endpoint("command", url)


def _usual_sockets(environ: Mapping[str, str]) -> list[str]:
    home = os.path.expanduser("~")
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid() if hasattr(os, 'getuid') else 0}"
    desktop = [".docker/run/docker.sock", ".docker/desktop/docker.sock", ".orbstack/run/docker.sock"]
    desktop += [".colima/default/docker.sock", ".rd/docker.sock"]
    return ["/var/run/docker.sock", f"{runtime}/docker.sock", *(os.path.join(home, path) for path in desktop)]


def _of_context(environ: Mapping[str, str]) -> str | None:
    """The engine of the current context, as ``docker context use`` stored it."""
    folder = environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    name = environ.get("DOCKER_CONTEXT") or _json(os.path.join(folder, "config.json")).get("currentContext")
    if not name or name == "default":
        return None
    identity = hashlib.sha256(name.encode()).hexdigest()
    meta = _json(os.path.join(folder, "contexts", "meta", identity, "meta.json"))
    host = meta.get("Endpoints", {}).get("docker", {}).get("Host")
    return str(host) if host else None


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class _Pipes:
    """A connection through ``docker system dial-stdio`` that looks like a socket."""

    def __init__(self, command: str, timeout: float) -> None:
        import subprocess
        import threading

        self._process = subprocess.Popen(
            [command, "system", "dial-stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._timer = threading.Timer(timeout, self._process.kill)
        self._timer.daemon = True
        self._timer.start()

    def sendall(self, data: bytes) -> None:
        """Sends all of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def makefile(self, mode: str) -> Any:  # noqa: ARG002
        """The stream of answers, to be closed on its own."""
        assert self._process.stdout is not None
        return os.fdopen(os.dup(self._process.stdout.fileno()), "rb")

    def shutdown(self, how: int) -> None:  # noqa: ARG002
        """Says that nothing more will be sent."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close(self) -> None:
        """Ends the helper process."""
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


class _Connection(NamedTuple):
    """The way to the engine, open: what is sent goes by ``way``, a socket, and what is read by ``stream``."""

    way: Any
    stream: IO[bytes]

    def ask(self, method: str, target: str, body: Any = None, fields: Mapping[str, str] = {}) -> http1.Head:
        """Sends a request and reads how its answer begins."""
        data = None if body is None else json.dumps(body).encode()
        self.way.sendall(http1.request(method, target, data, fields))
        return http1.head(self.stream)

    def rest(self, head: http1.Head) -> bytes:
        """What follows that beginning. Raises `EngineRefusalError` for a refusal."""
        answer = http1.body(self.stream, head)
        if head.status >= 400:
            raise EngineRefusalError(head.status, _complaint(answer))
        return answer


@contextlib.contextmanager
def _connected(endpoint: Endpoint, command: str | None, timeout: float) -> Iterator[_Connection]:
    with contextlib.ExitStack() as held:
        way = _way(endpoint, command, timeout)
        held.callback(_closed, way)
        stream = way.makefile("rb")
        held.callback(_closed, stream)
        yield _Connection(way, stream)


def _closed(what: Any) -> None:
    with contextlib.suppress(OSError):
        what.close()


def _way(endpoint: Endpoint, command: str | None, timeout: float) -> Any:
    if endpoint.kind == "command":
        if command is None:
            raise FileNotFoundError("docker")
        return _Pipes(command, timeout)
    if endpoint.kind == "tcp":
        from urllib.parse import urlsplit

        parts = urlsplit(f"//{endpoint.address}")
        return socket.create_connection((parts.hostname, parts.port or 2375), timeout)
    way = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    way.settimeout(timeout)
    try:
        way.connect(endpoint.address)
    except BaseException:
        way.close()
        raise
    return way


class Engine:
    """One Docker Engine. Every call has a connection of its own, so that threads may share this."""

    def __init__(self, endpoint: Endpoint, command: str | None = None) -> None:
        self.endpoint = endpoint
        self.command = command

    @classmethod
    def found(cls) -> Engine:
        """The engine of this host. Raises `UnavailableError` with what to do."""
        command, endpoint = docker_command(), find_endpoint()
        if endpoint is None and command is None:
            raise UnavailableError("absent", "there is no Docker on this host", "install it and run again")
        if endpoint is None:
            raise UnavailableError("down", "the Docker Engine is not running", _START)
        return cls(endpoint, command)

    def get(self, path: str, timeout: float = CALL_SECONDS, **query: Any) -> Any:
        """The JSON answer to a GET."""
        return self.call("GET", path, timeout=timeout, query=query)

    def api_version(self) -> str | None:
        """The newest version of the API that the engine speaks; much cheaper than asking for ``/version``."""

        def ask(connection: _Connection) -> str | None:
            return connection.ask("GET", "/_ping").fields.get("api-version")

        version: str | None = self._with_connection(CALL_SECONDS, ask)
        return version

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float = CALL_SECONDS,
    ) -> Any:
        """The JSON answer, None if it is empty. Raises `UnavailableError` or `EngineRefusalError`."""

        def ask(connection: _Connection) -> Any:
            answer = connection.rest(connection.ask(method, _target(path, query or {}), body))
            return json.loads(answer) if answer.strip() else None

        return self._with_connection(timeout, ask)

    def running(
        self, container: str, argv: list[str], stdin: bytes = b"", timeout: float = CALL_SECONDS
    ) -> Exec:
        """Runs a command in a container. The events show its ``argv`` to everybody, not its ``stdin``."""
        wanted = {"Cmd": argv, "AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
        identity = self.call("POST", f"/containers/{quoted(container)}/exec", body=wanted)["Id"]
        out, err = self._with_connection(timeout, lambda connection: _talk(connection, identity, stdin))
        return Exec(self._exit_code(identity), out, err)

    def _exit_code(self, identity: str) -> int:
        """The stream ends a moment before the engine has noted the exit."""
        deadline = time.monotonic() + 2
        while True:
            state = self.get(f"/exec/{identity}/json")
            if not state["Running"] or time.monotonic() > deadline:
                return -1 if state["ExitCode"] is None else int(state["ExitCode"])
            time.sleep(0.005)

    def logs(self, container: str, lines: int = 15) -> str:
        """The last lines that a container wrote."""
        target = _target(f"/containers/{quoted(container)}/logs", {"stdout": 1, "stderr": 1, "tail": lines})
        data = self._with_connection(CALL_SECONDS, lambda link: link.rest(link.ask("GET", target)))
        out, err = _frames(data)
        return (out + err).strip() or data.decode("utf-8", "replace").strip("\0 \n")

    def _with_connection(self, timeout: float, do: Callable[[_Connection], Any]) -> Any:
        try:
            with _connected(self.endpoint, self.command, timeout) as connection:
                return do(connection)
        except PermissionError:
            what = f"this user has no right to the Docker Engine's socket {self.endpoint.address}"
            raise UnavailableError("denied", what, _JOIN) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise self._down("does not answer at {where}") from None
        except socket.timeout:
            raise self._down(f"gave no answer within {timeout:g} s") from None
        except (OSError, ValueError) as error:
            raise self._down(f"broke off at {{where}} ({type(error).__name__})") from None

    def _down(self, did: str) -> UnavailableError:
        what = f"the Docker Engine {did}".replace("{where}", self.endpoint.address)
        return UnavailableError("down", what, _START)


_AS_IT_IS = re.compile(r"[A-Za-z0-9_.:/@-]*")


def quoted(name: str) -> str:
    """A name as a path holds it."""
    if _AS_IT_IS.fullmatch(name):
        return name
    from urllib.parse import quote

    return quote(name)


def _target(path: str, query: Mapping[str, Any]) -> str:
    if not query:
        return path
    texts = {name: _plain(value) for name, value in query.items()}
    if all(map(_AS_IT_IS.fullmatch, texts.values())):
        return f"{path}?" + "&".join(f"{name}={text}" for name, text in texts.items())
    from urllib.parse import urlencode

    return f"{path}?{urlencode(texts)}"


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _complaint(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode("utf-8", "replace").strip()[:300]


def _talk(connection: _Connection, identity: str, stdin: bytes) -> tuple[str, str]:
    """Starts an exec and speaks with it on the same connection, which the engine hands over to it.

    Not a byte may be sent before the engine has said so: it throws away what it read along with the request.
    """
    wanted = {"Detach": False, "Tty": False}
    upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
    head = connection.ask("POST", f"/exec/{identity}/start", wanted, upgrade)
    if head.status != http1.SWITCHING_PROTOCOLS:
        raise EngineRefusalError(head.status, _complaint(http1.body(connection.stream, head)))
    connection.way.sendall(stdin)
    with contextlib.suppress(OSError):
        connection.way.shutdown(socket.SHUT_WR)
    return _frames(connection.stream.read())


def _frames(data: bytes) -> tuple[str, str]:
    """What was written to stdout and to stderr, from the engine's stream of frames."""
    streams: dict[int, list[bytes]] = {1: [], 2: []}
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack(">BxxxL", data[at : at + 8])
        streams.setdefault(kind, []).append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(streams[1]).decode("utf-8", "replace"), b"".join(streams[2]).decode("utf-8", "replace")
