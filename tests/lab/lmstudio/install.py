"""A real-looking LM Studio in a home of its own, for tests: nothing of the machine's own is touched.

    with LMStudio.install(tmp_path) as studio:
        first = studio.start(loaded=["qwen/qwen3-4b"])
        first.control(spin="root")

The executables are Python's, hard-linked to where LM Studio's lie, so that a process's executable and
arguments look as they should. Whatever of it still runs when the block ends, or when the test run dies, ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.lab.ports import free_ports

HERE = Path(__file__).resolve().parent
WORKERS = ("llmworker.js", "systemresourcesworker.js", "liblmstudioworker.js")

MODELS = (
    {"key": "qwen/qwen3-4b", "size_bytes": 2_500_000_000},
    {"key": "google/gemma-3-1b", "size_bytes": 800_000_000},
)

SETTINGS: Mapping[str, Any] = {
    "enableLocalService": False,
    "autoLoadBundledLLM": True,
    "developerMode": True,
    "defaultContextLength": {"type": "max", "value": 4096},
    "modelLoadingGuardrails": {
        "mode": "high",
        "customThresholdBytes": 4294967296,
        "alwaysAllowLoadAnyway": False,
    },
    "chat": {"unloadPreviousModelOnSelect": True},
    "developer": {
        "unloadPreviousJITModelOnLoad": False,
        "jitModelTTL": {"enabled": True, "ttlSeconds": 7200},
        "appUpdateChannel": "stable",
    },
    "hfDownloadToken": "",
    "dismissedModals": ["welcome"],
}

SERVER: Mapping[str, Any] = {
    "autoStartOnLaunch": True,
    "port": 1234,
    "cors": False,
    "logSensitiveData": True,
    "logIncomingTokens": False,
    "verbose": True,
    "logLinesLimit": 500,
    "networkInterface": "127.0.0.1",
    "justInTimeModelLoading": True,
    "fileLoggingMode": "succinct",
}


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One running instance: its root process and the way to control it."""

    root_pid: int
    control_port: int

    def control(self, **switches: object) -> None:
        """Set switches: spin and leak_in ("root", "worker"), leak_mb_per_s, hang, refuse_quit, work, token,
        tokens_per_s, load_seconds."""
        self.post("/lab/control", switches)

    def post(self, path: str, content: object) -> Any:
        """Ask its control channel."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.control_port}{path}", data=json.dumps(content).encode()
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    @property
    def pids(self) -> list[int]:
        """The whole tree, the root first; empty when it has gone."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.root_pid)
            if root.status() != psutil.STATUS_ZOMBIE:
                return [root.pid, *(child.pid for child in root.children(recursive=True))]
        return []

    @property
    def running(self) -> bool:
        """Whether its root lives."""
        return bool(self.pids)


@dataclass(kw_only=True)
class LMStudio:
    """An installation. ``user_home`` stands for the user's home, ``home`` is LM Studio's own in it."""

    user_home: Path
    version: str
    generation: str
    form: str
    port: int
    instances: list[Instance] = field(default_factory=list)

    @classmethod
    def install(
        cls,
        user_home: Path,
        *,
        version: str = "0.4.7",
        generation: str = "new",
        form: str = "app",
        port: int | None = None,
        settings: Mapping[str, Any] = SETTINGS,
        server: Mapping[str, Any] = SERVER,
        models: Sequence[Mapping[str, Any]] = MODELS,
    ) -> LMStudio:
        """Put one there: ``generation`` is where settings.json lies (new, old), ``form`` app or llmster."""
        studio = cls(
            user_home=user_home.resolve(),
            version=version,
            generation=generation,
            form=form,
            port=port or free_ports(1)[0],
        )
        studio._write_program(models)
        studio._write_files(settings, {**server, "port": studio.port})
        return studio

    @property
    def home(self) -> Path:
        """LM Studio's home folder."""
        return self.user_home / ".lmstudio"

    @property
    def executable(self) -> Path:
        """The main executable."""
        if self.form == "llmster":
            return self.home / "llmster" / "0.0.15-2" / "llmster"
        return self.user_home / "opt" / "LM Studio" / "lm-studio"

    @property
    def settings_file(self) -> Path:
        """settings.json of this generation."""
        old = self.user_home / ".config" / "LM Studio"
        return (self.home if self.generation == "new" else old) / "settings.json"

    @property
    def server_config_file(self) -> Path:
        """The persisted configuration of the HTTP server."""
        return self.home / ".internal" / "http-server-config.json"

    @property
    def lms(self) -> Path:
        """The command line; ``lms_calls`` tells who called it."""
        return self.home / "bin" / "lms"

    @property
    def lms_calls(self) -> list[list[str]]:
        """The arguments of each call of ``lms`` so far."""
        calls = self.home / "lab" / "lms-calls.jsonl"
        return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    @property
    def url(self) -> str:
        """The base of the HTTP API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def argv(self) -> list[str]:
        """What starts it, as app-install-location.json says."""
        return [str(self.executable), str(self._program)]

    @property
    def env(self) -> dict[str, str]:
        """An environment in which this is the user's home."""
        return {**os.environ, "HOME": str(self.user_home)}

    def start(self, *, port: int | None = None, wait: bool = True, **switches: object) -> Instance:
        """Start an instance and wait until it can be controlled, and unless ``wait`` is false, its API too.

        ``port`` changes the persisted one first. A second instance finds the port taken and serves nothing.
        """
        if port is not None:
            self.port = port
            _write(self.server_config_file, {**json.loads(self.server_config_file.read_text()), "port": port})
        serves = wait and not self._listens()
        process = subprocess.Popen(
            self.argv,
            cwd=self.executable.parent,
            env={**self.env, "LAB_SWITCHES": json.dumps(switches)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Reaped as soon as it ends, as the desktop's session would.
        threading.Thread(target=process.wait, daemon=True).start()
        note = self.home / "lab" / f"{process.pid}.json"
        wait_until(note.exists, f"the stand-in {process.pid} did not start")
        if serves and not switches.get("hang"):
            wait_until(self._listens, f"the stand-in does not listen on {self.port}")
        self.instances.append(_instance(note))
        return self.instances[-1]

    @property
    def running(self) -> list[Instance]:
        """Every instance that runs, whoever started it, the oldest first."""
        notes = [_instance(note) for note in (self.home / "lab").glob("[0-9]*.json")]
        alive = [each for each in notes if each.running and self._is_ours(each.root_pid)]
        return sorted(alive, key=lambda each: psutil.Process(each.root_pid).create_time())

    @property
    def root_pid(self) -> int:
        """The root of the oldest instance that runs."""
        return self.running[0].root_pid

    @property
    def pids(self) -> list[int]:
        """Every process of this installation."""
        return [process.pid for process in self._processes()]

    def control(self, **switches: object) -> None:
        """Set switches of the oldest instance."""
        self.running[0].control(**switches)

    def stop(self) -> None:
        """End whatever of it runs."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        wait_until(lambda: not self._processes(), "processes of the stand-in do not end")

    def __enter__(self) -> LMStudio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _program(self) -> Path:
        name = (".bundle",) if self.form == "llmster" else ("resources", "app")
        return self.executable.parent.joinpath(*name)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _processes(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_ours(process.pid)]

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and process.exe().startswith(f"{self.user_home}{os.sep}")
        return False

    def _write_program(self, models: Sequence[Mapping[str, Any]]) -> None:
        for executable in (self.executable, self.home / ".internal" / "utils" / "node"):
            _place_python(executable)
        shutil.copytree(
            HERE / "program", self._program, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__py*")
        )
        (self._program / "lib").mkdir(exist_ok=True)
        for worker in WORKERS:
            shutil.copyfile(HERE / "program" / "helper.py", self._program / "lib" / worker)
        lab = {
            "form": self.form,
            "version": self.version,
            "home": str(self.home),
            "settings": str(self.settings_file),
            "defaults": dict(SETTINGS),
            "models": list(models),
            "switches": {},
            "owner": {"pid": os.getpid(), "started": _started(os.getpid())},
        }
        _write(self._program / "lab.json", lab)

    def _write_files(self, settings: Mapping[str, Any], server: Mapping[str, Any]) -> None:
        internal = self.home / ".internal"
        (self.home / "lab").mkdir(parents=True, exist_ok=True)
        _write(self.settings_file, settings)
        _write(self.server_config_file, server)
        place = {"path": self.argv[0], "argv": self.argv[1:], "cwd": str(self.executable.parent)}
        _write(internal / f"{self.form}-install-location.json", place)
        version, _, build = f"{self.version}+4".partition("+")
        history = {
            "lastRecorderdAppVersion": version,
            "lastRecordedAppBuildVersion": build,
            "executedMigrations": [],
        }
        _write(internal / "historical-version-info.json", history)
        if self.generation == "new":
            marker = {"version": 1, "date": "2026-03-24T00:00:00.000Z", "reason": "noOldSettingsFound"}
            _write(internal / "old-settings-migrated.marker", marker)
        self.lms.parent.mkdir(parents=True, exist_ok=True)
        self.lms.write_text(f"#!{_python()}\n{(HERE / 'lms.py').read_text()}")
        self.lms.chmod(0o755)


def wait_until(ready: Callable[[], object], complaint: str, *, timeout: float = 20.0) -> None:
    """Wait for a condition; ``TimeoutError`` with the complaint if it does not come."""
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(0.02)


def _instance(note: Path) -> Instance:
    return Instance(root_pid=int(note.stem), control_port=json.loads(note.read_text())["port"])


def _python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(sys.executable)


def _place_python(path: Path) -> None:
    """Python's executable under another name; ``pyvenv.cfg`` beside it tells it where its library is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(_python(), path)
    except OSError:
        shutil.copy2(_python(), path)
    (path.parent / "pyvenv.cfg").write_text(f"home = {Path(_python()).parent}\n")


def _started(pid: int) -> str:
    """When a process started, as /proc has it; empty where there is no /proc."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.read_text().rsplit(")", 1)[1].split()[19] if stat.exists() else ""


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
