"""The Docker Engine's API over its socket, with a time limit for every call.

Asking the socket costs a millisecond where the ``docker`` command costs fifty. What only the command can
reach (SSH, TLS, Windows' named pipe) is reached through ``docker system dial-stdio``.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
import struct
import time
from typing import Any, Callable, Mapping, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

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
    """A connection through ``docker system dial-stdio`` that looks like a socket to `http.client`."""

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


class _Connection(http.client.HTTPConnection):
    def __init__(self, endpoint: Endpoint, command: str | None, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._endpoint, self._command, self._seconds = endpoint, command, timeout

    def connect(self) -> None:
        """Opens the way to the engine."""
        if self._endpoint.kind == "command":
            if self._command is None:
                raise FileNotFoundError("docker")
            self.sock: Any = _Pipes(self._command, self._seconds)
        elif self._endpoint.kind == "tcp":
            parts = urlsplit(f"//{self._endpoint.address}")
            self.sock = socket.create_connection((parts.hostname, parts.port or 2375), self._seconds)
        else:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self._seconds)
            self.sock.connect(self._endpoint.address)


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
            connection.request("GET", "/_ping")
            response = connection.getresponse()
            response.read()
            return response.getheader("Api-Version")

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
            answer = self._send(connection, method, path, query, body)
            return json.loads(answer) if answer.strip() else None

        return self._with_connection(timeout, ask)

    def running(
        self, container: str, argv: list[str], stdin: bytes = b"", timeout: float = CALL_SECONDS
    ) -> Exec:
        """Runs a command in a container. The events show its ``argv`` to everybody, not its ``stdin``."""
        wanted = {"Cmd": argv, "AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
        identity = self.call("POST", f"/containers/{quote(container)}/exec", body=wanted)["Id"]
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
        path = f"/containers/{quote(container)}/logs"
        query = {"stdout": 1, "stderr": 1, "tail": lines}
        data = self._with_connection(CALL_SECONDS, lambda link: self._send(link, "GET", path, query, None))
        out, err = _frames(data)
        return (out + err).strip() or data.decode("utf-8", "replace").strip("\0 \n")

    def _send(
        self, connection: _Connection, method: str, path: str, query: Mapping[str, Any] | None, body: Any
    ) -> bytes:
        target = path + ("?" + urlencode({k: _plain(v) for k, v in query.items()}) if query else "")
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, target, data, {"Content-Type": "application/json"} if data else {})
        response = connection.getresponse()
        answer = response.read()
        if response.status >= 400:
            raise EngineRefusalError(response.status, _complaint(answer))
        return answer

    def _with_connection(self, timeout: float, do: Callable[[_Connection], Any]) -> Any:
        connection = _Connection(self.endpoint, self.command, timeout)
        try:
            return do(connection)
        except PermissionError:
            what = f"this user has no right to the Docker Engine's socket {self.endpoint.address}"
            raise UnavailableError("denied", what, _JOIN) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise self._down("does not answer at {where}") from None
        except socket.timeout:
            raise self._down(f"gave no answer within {timeout:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._down(f"broke off at {{where}} ({type(error).__name__})") from None
        finally:
            with contextlib.suppress(OSError):
                connection.close()

    def _down(self, did: str) -> UnavailableError:
        what = f"the Docker Engine {did}".replace("{where}", self.endpoint.address)
        return UnavailableError("down", what, _START)


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def _complaint(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode("utf-8", "replace").strip()[:300]


def _talk(connection: _Connection, identity: str, stdin: bytes) -> tuple[str, str]:
    """Starts an exec and speaks with it on the same connection, which the engine hands over to it.

    Not a byte may be sent before the engine has said so: it throws away what it read along with the request.
    """
    body = json.dumps({"Detach": False, "Tty": False}).encode()
    headers = {"Content-Type": "application/json", "Connection": "Upgrade", "Upgrade": "tcp"}
    connection.request("POST", f"/exec/{identity}/start", body, headers)
    response = connection.getresponse()
    if response.status != http.client.SWITCHING_PROTOCOLS:
        raise EngineRefusalError(response.status, _complaint(response.read()))
    connection.sock.sendall(stdin)
    with contextlib.suppress(OSError):
        connection.sock.shutdown(socket.SHUT_WR)
    return _frames(response.fp.read())


def _frames(data: bytes) -> tuple[str, str]:
    """What was written to stdout and to stderr, from the engine's stream of frames."""
    streams: dict[int, list[bytes]] = {1: [], 2: []}
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack(">BxxxL", data[at : at + 8])
        streams.setdefault(kind, []).append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(streams[1]).decode("utf-8", "replace"), b"".join(streams[2]).decode("utf-8", "replace")
