"""Which processes are LM Studio: by the path of the executable, never by a name alone. Pure.

A program that is merely called alike (``LM_Support.exe`` is ASUS Aura's) or that has "LM Studio" among its
arguments is none. Paths are those of the host that the process table comes from, so that Windows' and macOS'
tables can be judged anywhere.
"""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import PurePath, PurePosixPath, PureWindowsPath

from calm.health.processes import Process, lineage

APP = (
    "*/LM Studio/lm-studio",
    "/usr/bin/lm-studio",
    "*/.mount_LM-Stu*/lm-studio",
    "*/LM Studio.exe",
    "*/LM Studio.app/Contents/MacOS/LM Studio",
)
LLMSTER = ("*/llmster/*/llmster", "*/llmster/*/llmster.exe")

HELPERS = ("*/LM Studio.app/Contents/Frameworks/*",)
"""Helpers that have an executable of their own; on Linux and Windows they share the main one."""

WORKERS = ("*/.internal/utils/node", "*/.internal/utils/node.exe", "*/.internal/utils/deno*")
WORKER_SCRIPTS = ("llmworker.js", "systemresourcesworker.js", "liblmstudioworker.js")

CHILDREN = HELPERS + WORKERS

KNOWN_NAMES = {
    "lm_support": "ASUS Aura's lighting add-on (AURA lighting effect add-on), not part of LM Studio"
}
"""Names that are often taken for something else, lower case and without ``.exe``."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One instance: its root and what belongs to it, the root first."""

    root: Process
    members: tuple[Process, ...]


@dataclass(frozen=True, kw_only=True)
class Trees:
    """Every instance, the oldest first, and helpers or workers without one."""

    instances: tuple[Tree, ...]
    leftovers: tuple[Process, ...]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What LM Studio looks like on one host.

    ``system`` is ``platform.system()`` of that host. ``installed`` are paths of its own install-location
    files, ``executables`` paths or patterns of the settings, ``home`` is LM Studio's home.
    """

    system: str
    home: str | None = None
    installed: Sequence[str] = ()
    executables: Sequence[str] = ()

    def mine(self, process: Process) -> bool:
        """Whether the executable is LM Studio's: the main one, a helper's, or a worker's in its home."""
        return process.executable is not None and self._judged(process.executable)

    @cached_property
    def _judged(self) -> Callable[[str], bool]:
        # A host runs the same executables from one look to the next, but over months ever new ones as well.
        return lru_cache(maxsize=8192)(self._is_mine)

    def _is_mine(self, executable: str) -> bool:
        return self._main(executable) or self._matches(executable, CHILDREN) or self._in_home(executable)

    def is_root(self, process: Process) -> bool:
        """Whether the process could be the root of an instance, going by itself alone."""
        return self._main(process.executable) and not self.is_helper(process)

    def is_helper(self, process: Process) -> bool:
        """Whether it works for an instance: an Electron child or a node worker."""
        electron = any(argument.startswith("--type=") for argument in process.arguments)
        scripted = any(argument.endswith(WORKER_SCRIPTS) for argument in process.arguments)
        return electron or scripted or self._matches(process.executable, CHILDREN)

    def is_worker(self, process: Process) -> bool:
        """Whether it is one of those that run models rather than windows."""
        scripted = any(argument.endswith(WORKER_SCRIPTS) for argument in process.arguments)
        return scripted or self._matches(process.executable, WORKERS)

    def form(self, process: Process) -> str:
        """``llmster`` for the headless daemon, else ``app``."""
        return "llmster" if self._matches(process.executable, LLMSTER) else "app"

    def home_of(self, tree: Tree) -> str | None:
        """LM Studio's home that an instance lives in, by where its workers or llmster itself lie."""
        paths = [_path(self.system, each.executable) for each in tree.members if each.executable]
        homes = [_above(path, marker) for marker in (".internal", "llmster") for path in paths]
        return next((home for home in homes if home is not None), None)

    def _main(self, executable: str | None) -> bool:
        # An AppImage's own file is run by the process that serves its mount: whoever ends that one takes
        # the files away from under the application.
        if executable is None or executable.lower().endswith(".appimage"):
            return False
        return self._matches(executable, self._mains)

    @cached_property
    def _mains(self) -> tuple[str, ...]:
        # Of the install locations those that can only be LM Studio's: a packager's electron is everybody's.
        own = [path for path in self.installed if _names_lmstudio(_path(self.system, path))]
        return (*APP, *LLMSTER, *self.executables, *map(glob.escape, own))

    def _in_home(self, executable: str) -> bool:
        return self.home is not None and _path(self.system, executable).is_relative_to(
            _path(self.system, self.home)
        )

    def _matches(self, executable: str | None, patterns: tuple[str, ...]) -> bool:
        return executable is not None and _fits(self.system, executable, patterns)


def _above(path: PurePath, marker: str) -> str | None:
    """The folder that holds the folder called ``marker`` on this path."""
    folders = [parent for parent in path.parents if parent.name == marker]
    return str(folders[-1].parent) if folders else None


def _path(system: str, text: str) -> PurePath:
    return PureWindowsPath(text) if system == "Windows" else PurePosixPath(text)


def _comparable(system: str, text: str) -> str:
    slashed = _path(system, text).as_posix()
    return slashed.lower() if system == "Windows" else slashed


# A host runs the same executables from one look to the next; parsing their paths is what would cost most.
@lru_cache(maxsize=8192)
def _fits(system: str, executable: str, patterns: tuple[str, ...]) -> bool:
    path = _comparable(system, executable)
    return any(fnmatchcase(path, _comparable(system, pattern)) for pattern in patterns)


def _names_lmstudio(path: PurePath) -> bool:
    bare = path.stem.lower().translate({ord(letter): None for letter in " -_"})
    return "lmstudio" in bare or bare == "llmster"


def trees(processes: Iterable[Process], identity: Identity) -> Trees:
    """The instances in a process table.

    A root's executable is the main one, it has no ``--type=``, is no worker, and none of its ancestors is
    LM Studio. To it belong its descendants that are LM Studio's; a browser or shell that it has started is
    somebody else's.
    """
    table = {process.pid: process for process in processes}
    mine = {pid: process for pid, process in table.items() if identity.mine(process)}
    members: dict[int, list[Process]] = defaultdict(list)
    leftovers = []
    for process in sorted(mine.values(), key=lambda each: (each.created_at, each.pid)):
        root = _root(table, mine, process, identity)
        if root is not None:
            members[root.pid].append(process)
        elif identity.is_helper(process):
            leftovers.append(process)
    return Trees(
        instances=tuple(_tree(table[pid], descendants) for pid, descendants in members.items()),
        leftovers=tuple(leftovers),
    )


def _tree(root: Process, members: Iterable[Process]) -> Tree:
    return Tree(root=root, members=(root, *(each for each in members if each.pid != root.pid)))


def _root(
    table: Mapping[int, Process], mine: Mapping[int, Process], process: Process, identity: Identity
) -> Process | None:
    """The outermost LM Studio process above ``process`` that can be a root, or itself."""
    line = [process, *(each for each in lineage(table, process) if each.pid in mine)]
    return next((each for each in reversed(line) if identity.is_root(each)), None)


def known_as(name: str) -> str | None:
    """What a well-known name really is, if it is often mistaken."""
    return KNOWN_NAMES.get(plain(name))


def plain(name: str) -> str:
    """A program's name for comparison: lower case, without ``.exe``."""
    return name.lower().removesuffix(".exe")
