"""A Python that has calm loaded already and forks for each command of a test.

Most of a short command is the import of pyinfra. The child runs the same ``calm.cli.main.run`` as the
console script, with its own folder, environment and streams. ``CALM_PLAIN=1`` starts calm afresh instead;
`make test-full` does.

    python -m tests.integration.preloaded SOCKET    serves until its standard input is closed
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
_MODULES = (
    "calm.fleet.runner",
    "calm.cli.fleet",
    "calm.fleet.report",
    "calm.fleet.work",
    "calm.drift.host",
    "calm.settings.reference",
    "yaml",
    "jinja2",
    "ruamel.yaml",
)


class Preloaded:
    """The client: starts the server at the first command, ends it with this process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="calm-preloaded-")
        self._path = str(Path(self._folder.name) / "socket")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.preloaded", self._path],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"
        atexit.register(self.close)

    def run(
        self, arguments: list[str], *, env: Mapping[str, str], text: str, timeout: float
    ) -> tuple[int, str, str]:
        """Run ``calm ARGUMENTS``; its exit code and both streams."""
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write(text.encode())
            given.seek(0)
            code = self._ask(arguments, env, [given.fileno(), out.fileno(), err.fileno()], timeout)
            return code, _all(out), _all(err)

    def _ask(self, arguments: list[str], env: Mapping[str, str], files: list[int], timeout: float) -> int:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout)
            client.connect(self._path)
            request = json.dumps({"arguments": arguments, "env": dict(env)}).encode()
            socket.send_fds(client, [len(request).to_bytes(4, "big")], files)
            client.sendall(request)
            answer = client.recv(4)
            return int.from_bytes(answer, "big") if len(answer) == 4 else -signal.SIGKILL

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=10)
        self._folder.cleanup()


def _all(file: object) -> str:
    file.seek(0)  # type: ignore[attr-defined]
    return file.read().decode()  # type: ignore[attr-defined, no-any-return]


def serve(path: str) -> None:
    """Fork for every request until standard input is closed."""
    for module in _MODULES:
        import_module(module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while 0 not in select.select([0, listener], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _serve_one(connection)
        connection.close()
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _serve_one(connection: socket.socket) -> None:
    head, files, _, _ = socket.recv_fds(connection, 4, 3)
    length, request = int.from_bytes(head, "big"), b""
    while len(request) < length:
        request += connection.recv(length - len(request))
    asked = json.loads(request)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in enumerate("rww"))  # noqa: PTH123, SIM115
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(CHECKOUT)
    code = 1
    try:
        from calm.cli.main import run

        code = int(run(asked["arguments"]))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(code.to_bytes(4, "big"))
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
