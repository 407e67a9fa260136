"""The stand-in's root process: it starts the tree, serves the API, owns its settings, quits when told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from api import Api, Control, Server
from helper import Habits, owner_gone
from models import Loaded, Models

ELECTRON = (
    ["--type=zygote", "--no-zygote-sandbox"],
    ["--type=zygote"],
    ["--type=gpu-process", "--gpu-preferences=UAAAAAAA"],
    ["--type=utility", "--utility-sub-type=network.mojom.NetworkService"],
    ["--type=utility", "--utility-sub-type=node.mojom.NodeService"],
)
RENDERER = ["--type=renderer", "--enable-crash-reporter", "--lang=en-US"]
WORKERS = ("systemresourcesworker.js", "liblmstudioworker.js")


class Child:
    """A child process at the other end of a pipe; it ends when the pipe closes."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        """Start it."""
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, env=env)
        threading.Thread(target=self._process.wait, daemon=True).start()

    def tell(self, **switches: object) -> None:
        """Give it new habits; one that has died does not mind."""
        with suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(switches).encode() + b"\n")
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """End it."""
        self._process.terminate()


class App:
    """One running LM Studio, the application or llmster."""

    def __init__(self, lab: dict[str, Any], program: Path) -> None:
        """Start the tree and what the persisted configuration says."""
        self._lab, self._program = lab, program
        self.form, self.version, self.pid = lab["form"], lab["version"], os.getpid()
        self.switches: dict[str, Any] = dict(lab["switches"]) | json.loads(
            os.environ.get("LAB_SWITCHES", "{}")
        )
        self.internal = Path(lab["home"]) / ".internal"
        self.running = threading.Event()
        self.running.set()
        self._leaving = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: self.quit())
        signal.signal(signal.SIGINT, lambda *_: self.quit())
        self._habits = Habits()
        self._server: Server | None = None
        self._jit = True
        self._settings = self._read_settings()
        self.has_v1 = (
            tuple(int(part) for part in self.version.split(".")[:2]) >= (0, 4) or self.form == "llmster"
        )
        self._children = self._start_tree()
        self.models = Models(
            lab["models"], self._worker, load_seconds=float(self.switches.get("load_seconds", 0))
        )
        for key in self.switches.get("loaded", []):
            self.models.load(key)
        self._control = Server(("127.0.0.1", 0), Control, self)
        self._name_itself()
        if self.config.get("autoStartOnLaunch", True):
            self.serve()
        self.control({})

    @property
    def config(self) -> dict[str, Any]:
        """``http-server-config.json`` as it is now."""
        return _read(self.internal / "http-server-config.json")

    @property
    def jit(self) -> bool:
        """Whether a chat loads its model; read when the server starts, as with the real one."""
        return self._jit

    def serve(self, port: int | None = None, **flags: Any) -> None:
        """Open the API's listener, if the port is to be had; flags go to the persisted configuration."""
        changed = flags | ({"port": port} if port else {})
        if changed:
            _write(self.internal / "http-server-config.json", self.config | changed)
        self.stop_serving()
        config = self.config
        self._jit = bool(config.get("justInTimeModelLoading", True))
        with suppress(OSError):
            self._server = Server((config.get("networkInterface", "127.0.0.1"), config["port"]), Api, self)

    def stop_serving(self) -> None:
        """Close the listener; models stay loaded."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def wanted(self, name: str, ttl: float | None) -> Loaded:
        """The loaded model that a chat asks for."""
        developer = self._settings.get("developer", {})
        default = developer.get("jitModelTTL", {"enabled": True, "ttlSeconds": 3600})
        idle = ttl or (default["ttlSeconds"] if default.get("enabled") else None)
        evict = developer.get("unloadPreviousJITModelOnLoad", True)
        return self.models.wanted(name, jit=self.jit, ttl=idle, evict=evict)

    def control(self, switches: dict[str, Any]) -> None:
        """Take on habits; ``spin`` and ``leak_in`` name the place, ``root`` or ``worker``."""
        self.switches |= switches
        (self.running.clear if self.switches.get("hang") else self.running.set)()
        leak, place = self.switches.get("leak_mb_per_s", 0), self.switches.get("leak_in", "root")
        spin = self.switches.get("spin")
        self._habits.set(spin=spin == "root", leak_mb_per_s=leak if place == "root" else 0)
        self._children[-1].tell(spin=spin == "worker", leak_mb_per_s=leak if place == "worker" else 0)

    def quit(self) -> None:
        """Leave, unless it refuses to."""
        if not self.switches.get("refuse_quit"):
            self._leaving.set()

    def run(self) -> None:
        """Wait until it is told to go, or the test run has gone; then write the settings as remembered."""
        while not self._leaving.wait(0.2):
            if owner_gone(self._lab["owner"]):
                os._exit(0)
        self.stop_serving()
        _write(Path(self._lab["settings"]), self._settings)
        time.sleep(float(self.switches.get("quit_seconds", 0)))
        os._exit(0)

    def _read_settings(self) -> dict[str, Any]:
        """Its settings; defaults are written over a file that cannot be parsed."""
        path = Path(self._lab["settings"])
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError):
            _write(path, self._lab["defaults"])
            return dict(self._lab["defaults"])

    def _start_tree(self) -> list[Child]:
        stray = ["--stray"] if self.switches.get("strays") else []
        helpers = [] if self.form == "llmster" else [[*kind, *stray] for kind in ELECTRON]
        return [*(self._helper(kind) for kind in helpers), *(self._node(script, stray) for script in WORKERS)]

    def _helper(self, kind: list[str]) -> Child:
        env = self._env()
        if kind[0] == "--type=zygote" and "--no-zygote-sandbox" not in kind:
            env["LAB_CHILD"] = json.dumps([*RENDERER, *kind[1:]])
        return Child([sys.executable, str(self._program / "helper.py"), *kind], env)

    def _worker(self) -> Child:
        return self._node("llmworker.js", [])

    def _node(self, script: str, more: list[str]) -> Child:
        node = self.internal / "utils" / "node"
        return Child([str(node), str(self._program / "lib" / script), *more], self._env())

    def _env(self) -> dict[str, str]:
        return {**os.environ, "LAB_OWNER": json.dumps(self._lab["owner"])}

    def _name_itself(self) -> None:
        """Write ``http-server.json``, unless another one that lives has."""
        path = self.internal / "http-server.json"
        other = _read(path).get("pid")
        if not (other and Path(f"/proc/{other}").exists()):
            _write(path, {"host": "127.0.0.1", "pid": self.pid, "port": self._control.server_address[1]})
        self._note()

    def _note(self) -> None:
        """Tell the test where this process can be controlled, whoever started it."""
        _write(self.internal.parent / "lab" / f"{self.pid}.json", {"port": self._control.server_address[1]})


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2))
    temporary.replace(path)


def main() -> None:
    """Run the application that this executable belongs to."""
    program = Path(__file__).resolve().parent
    App(json.loads((program / "lab.json").read_text()), program).run()
