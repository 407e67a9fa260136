"""What is done about LM Studio: unload, quit, end, start, its server. Each act is verified afterwards.

The ladder: unload idle models over HTTP, then ask it to quit, then SIGTERM, then SIGKILL for the whole tree.
``lms`` is called only while LM Studio runs: most of its commands start it else.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from calm.heal import launch, victims
from calm.heal.model import Finding, Outcome
from calm.heal.rules_lmstudio import same_path
from calm.health import connections, endpoints, home, processes
from calm.health.home import Home
from calm.health.identity import Identity, Tree, trees
from calm.health.model import Api, LoadedModel, ProcessKey
from calm.health.processes import Process, alive

if TYPE_CHECKING:
    from calm.settings import Settings

QUIT, TERM, KILL, START = 10.0, 5.0, 5.0, 30.0
"""Seconds to wait for each rung, and for the server after a start."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds to wait for each rung of the ladder, and for the server after a start."""

    quit: float = QUIT
    term: float = TERM
    kill: float = KILL
    start: float = START


class LMStudio:
    """The acts on this host's LM Studio."""

    def __init__(self, settings: Settings, patience: Patience | None = None) -> None:
        self._settings, self._wait = settings, patience or Patience()

    def end(self, finding: Finding) -> Outcome:
        """End an extra instance with all its processes. One that serves somebody by now is let alone."""
        key, here = _key(finding), self._look()
        if finding.evidence["kept"] not in {root.pid for root in here.roots if root != key}:
            return Outcome(result="deferred", says="the one that was to stay is gone by now")
        if here.serves(key):
            return Outcome(result="deferred", says="it serves a request; it is ended when that is done")
        return self._ended(key, here)

    def restart(self, finding: Finding) -> Outcome:
        """Unload what is idle, end the instance and start it again as it was."""
        key, here = _key(finding), self._look()
        if here.serves(key):
            return Outcome(result="deferred", says="it serves a request by now")
        if not here.members(key):
            return Outcome(result="deferred", says="it is gone by now")
        before = launch.remembered(key.pid)
        unloaded = self._unload_all()
        if unloaded and finding.rule == "lmstudio-runaway" and self._calm(here, key, finding):
            return Outcome(result="done", says=f"unloaded {', '.join(unloaded)}; it is calm since")
        ended = self._ended(key, here)
        return self._started(before, ended.says) if ended.result == "done" else ended

    def start(self) -> Outcome:
        """Start LM Studio if it does not run."""
        here = self._look()
        if here.roots:
            return Outcome(result="deferred", says=f"LM Studio runs already (process {here.roots[0].pid})")
        way = launch.installed(here.home.path)
        if way is None:
            return Outcome(
                result="failed",
                says="LM Studio's install location is not known: start it once by hand, so that it is noted"
                f" in {here.home.path / '.internal'}",
            )
        return self._started(way, "")

    def stop(self) -> Outcome:
        """Unload its models, then end every instance."""
        here = self._look()
        if not here.roots:
            return Outcome(result="deferred", says="LM Studio does not run")
        self._unload_all()
        outcomes = [self._ended(root, here) for root in here.roots]
        worst = next((each for each in outcomes if each.result != "done"), outcomes[0])
        return worst if worst.result != "done" else Outcome(result="done", says="LM Studio has ended")

    def start_server(self, finding: Finding, attempt: int) -> Outcome:
        """Start the HTTP server of an LM Studio that runs; if that has not helped, restart it all."""
        here = self._look()
        command = here.lms
        if attempt > 1 or command is None or not here.roots:
            return self.restart(finding)
        server = self._settings.lmstudio.server
        # Without these flags lms resets bind and CORS, whatever is saved (lms server start, bt#1334).
        argv = [command, "server", "start", "--port", str(here.home.port or server.port)]
        argv += ["--bind", server.bind, *(["--cors"] if server.cors else [])]
        said = _run(argv)
        if self._answers(self._wait.start):
            return Outcome(result="done", says="its server answers again")
        return Outcome(result="failed", says=f"lms server start did not bring the server back: {said}")

    def unload(self, finding: Finding) -> Outcome:
        """Unload one model over HTTP, and look whether it is gone."""
        name = finding.target.partition(":")[2]
        here = self._look()
        if any(here.serves(root) for root in here.roots):
            return Outcome(result="deferred", says="LM Studio serves a request by now")
        if name not in {model.id for model in self._models()}:
            return Outcome(result="deferred", says=f"{name} is not loaded any more")
        said = self._unload(name)
        if name in {model.id for model in self._models()}:
            return Outcome(result="failed", says=f"{name} is still loaded: {said}")
        return Outcome(result="done", says=f"{name} was unloaded")

    def end_process(self, finding: Finding) -> Outcome:
        """End a watched process of another program: by full path, number and start alone."""
        key = ProcessKey(finding.evidence["pid"], finding.evidence["created_at"])
        allowed = [each.path for each in self._settings.healing.watched if each.do == "act"]
        try:
            handle = psutil.Process(key.pid)
            right = any(same_path(handle.exe(), path) for path in allowed)
            if not alive(key) or not right or key.pid in _protected():
                return Outcome(result="deferred", says="it is gone, or somebody else has its number by now")
            handle.terminate()
            if victims.wait([key], self._wait.term) and alive(key):
                handle.kill()
        except psutil.AccessDenied:
            return Outcome(result="failed", says=f"this user may not end process {key.pid}")
        except psutil.NoSuchProcess:
            return Outcome(result="done", says="it has ended")
        left = victims.wait([key], self._wait.kill)
        return Outcome(result="failed" if left else "done", says="it lives on" if left else "it has ended")

    def helped(self, finding: Finding) -> bool | None:
        """Whether the trouble is gone: ``None`` while that cannot be told yet."""
        if finding.action == "unload":
            return finding.target.partition(":")[2] not in {model.id for model in self._models()}
        if finding.action in ("end", "end-process"):
            pid = finding.evidence.get("root_pid", finding.evidence.get("pid"))
            return not alive(ProcessKey(pid, finding.evidence["created_at"]))
        here = self._look()
        return bool(here.roots) and (self._answers(0.0) or not self._settings.lmstudio.server.autostart)

    # -- inside --------------------------------------------------------------------------------------------

    def _look(self) -> _Here:
        found = home.read(
            home.find(self._settings.lmstudio.home), default_port=self._settings.lmstudio.server.port
        )
        return _Here(settings=self._settings, home=found)

    def _ended(self, key: ProcessKey, here: _Here) -> Outcome:
        """Down the ladder until every process of the instance has ended."""
        members = here.members(key)
        if not members:
            return Outcome(
                result="deferred", says="it is gone by now, or it is not to be touched (calm runs inside it)"
            )
        keys = [member.key for member in members]
        self._ask_to_quit(members[0], here)
        if not victims.wait(keys, self._wait.quit):
            return Outcome(result="done", says=f"it quit with its {len(keys)} processes")
        for how, seconds in (("terminate", self._wait.term), ("kill", self._wait.kill)):
            for member in members:
                victims.signal(member, here.identity, "terminate" if how == "terminate" else "kill")
            if not victims.wait(keys, seconds):
                return Outcome(result="done", says=f"it was ended ({how}) with its {len(keys)} processes")
        left = ", ".join(str(each.pid) for each in victims.wait(keys, 0))
        return Outcome(
            result="failed", says=f"processes {left} live on: this user may not end them, or they hang"
        )

    def _ask_to_quit(self, root: Process, here: _Here) -> None:
        """The gentlest way that the system has."""
        if not alive(root.key):
            return
        if platform.system() == "Windows":
            _run(["taskkill", "/PID", str(root.pid), "/T"])
        elif here.identity.form(root) == "llmster" and here.lms and here.home.control_pid == root.pid:
            # The daemon that lms would talk to is this very one: its file names it.
            _run([here.lms, "daemon", "down"])
        elif platform.system() == "Darwin" and "--run-as-service" not in root.arguments:
            _run(["osascript", "-e", 'quit app "LM Studio"'])
        else:
            victims.signal(root, here.identity, "terminate")

    def _started(self, way: launch.Launch, before: str) -> Outcome:
        try:
            pid = way.start()
        except OSError as error:
            return Outcome(result="failed", says=f"{before}; it did not start again: {error}".lstrip("; "))
        if self._settings.lmstudio.server.autostart and not self._answers(self._wait.start):
            return Outcome(
                result="failed", says=f"started as process {pid}, but its server does not answer yet"
            )
        return Outcome(result="done", says=f"{before}; started again as process {pid}".lstrip("; "))

    def _answers(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            api = self._api()
            if api is not None and api.reachable:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.2)

    def _api(self) -> Api | None:
        url = self._look().home.url
        return endpoints.lmstudio(url)[1] if url else None

    def _models(self) -> Sequence[LoadedModel]:
        api = self._api()
        return (api.models_loaded if api else None) or ()

    def _unload_all(self) -> list[str]:
        """Unload every model that is loaded; those that are gone."""
        names = [model.id for model in self._models()]
        for name in names:
            self._unload(name)
        left = {model.id for model in self._models()} if names else set()
        return [name for name in names if name not in left]

    def _unload(self, name: str) -> str:
        import httpx

        token = os.environ.get("LM_API_TOKEN")
        try:
            answer = httpx.post(
                f"{self._look().home.url}/api/v1/models/unload",
                json={"instance_id": name},
                headers={"Authorization": f"Bearer {token}"} if token else {},
                timeout=20.0,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            return type(error).__name__
        return f"status {answer.status_code}"

    def _calm(self, here: _Here, key: ProcessKey, finding: Finding) -> bool:
        """Whether its CPU is below the rule's limit over the next second."""
        rows = list(here.rows(key).values())
        before, began = processes.cpu_seconds(rows), time.monotonic()
        time.sleep(1.0)
        after, span = processes.cpu_seconds(rows), time.monotonic() - began
        spent = sum(after[each] - before[each] for each in before.keys() & after.keys())
        return bool(100 * spent / span < finding.evidence.get("limit_percent", 80))


class _Here:
    """LM Studio's processes at this moment."""

    def __init__(self, *, settings: Settings, home: Home) -> None:
        self.home = home
        self.identity = Identity(
            system=platform.system(),
            home=str(home.path) if home.exists else None,
            installed=home.executables,
            executables=settings.lmstudio.executables,
        )
        self._known = processes.read({}, interesting=self.identity.mine)
        self._table = [row.process for row in self._known.values()]
        self.roots = [
            tree.root.key for tree in trees(self._table, self.identity).instances if self._in_this_home(tree)
        ]

    def _in_this_home(self, tree: Tree) -> bool:
        """Another user's LM Studio lives in another home, and is none of ours to end."""
        lives_in = self.identity.home_of(tree)
        return lives_in is None or not self.home.exists or Path(lives_in) == self.home.path.resolve()

    @property
    def lms(self) -> str | None:
        for name in ("lms", "lms.exe"):
            path = Path(self.home.path) / "bin" / name
            if path.is_file():
                return str(path)
        return None

    def members(self, key: ProcessKey) -> tuple[Process, ...]:
        if key not in self.roots:
            return ()
        guarded = victims.protected(self._table, os.getpid())
        return victims.of_instance(self._table, key, self.identity, guarded)

    def rows(self, key: ProcessKey) -> Mapping[int, processes.Known]:
        return {member.pid: self._known[member.pid] for member in self.members(key)}

    def serves(self, key: ProcessKey) -> bool:
        """Whether others are connected to it; unknown counts as yes."""
        rows = self.rows(key)
        served = connections.look(rows.values(), self.identity).served if rows else 0
        return served is None or served > 0


def _key(finding: Finding) -> ProcessKey:
    return ProcessKey(finding.evidence["root_pid"], finding.evidence["created_at"])


def _protected() -> frozenset[int]:
    me = psutil.Process()
    return frozenset({me.pid, *(parent.pid for parent in me.parents())})


def _run(argv: Sequence[str]) -> str:
    """What a short-lived command said; never raises."""
    options: dict[str, Any] = {
        "capture_output": True,
        "text": True,
        "timeout": 60,
        "stdin": subprocess.DEVNULL,
    }
    try:
        done = subprocess.run(argv, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]}: {error}"
    return (done.stderr or done.stdout).strip()[-300:] or f"exit code {done.returncode}"
