"""Files on a host: found without following a link out of the root, and replaced atomically.

The root is resolved once. Below it every folder is opened relative to its parent with ``O_NOFOLLOW``, so
that a link that appears in between is refused instead of followed. Where the operating system has no such
calls (Windows), whole paths are used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import Any, Iterator, NamedTuple

from calm.onhost.errors import LeadsOutError

TEMPORARY = ".calm-"
"""How the name of an unfinished file begins; it ends in ``.tmp``."""

LONGEST = 4 * 1024 * 1024
"""Bytes of a document that are read at most; what is longer is no document of ours."""

_AT = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_BINARY = getattr(os, "O_BINARY", 0)


class Place(NamedTuple):
    """A file's place: ``base`` is a real folder, ``parts`` the way down from it, ``below`` if in the root."""

    path: str
    base: str
    parts: tuple[str, ...]
    below: bool

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.parts[-1]


class Root:
    """The folder that holds all that calm writes on a host."""

    def __init__(self, given: str) -> None:
        self.given = os.path.abspath(os.path.expanduser(given))
        self.path = os.path.realpath(self.given)

    def status(self) -> str:
        """``absent``, ``folder``, ``file`` or ``unwritable``."""
        if not os.path.lexists(self.path):
            return "absent" if _writable_ancestor(self.path) else "unwritable"
        if not os.path.isdir(self.path):
            return "file"
        return "folder" if os.access(self.path, os.W_OK | os.X_OK) else "unwritable"

    def locate(self, path: str) -> Place:
        """Where ``path`` lies: relative to the root, absolute, or from the home folder with ``~``.

        Raises `LeadsOutError` for a relative path or a link that leaves the root.
        """
        expanded = os.path.expanduser(path)
        absolute = os.path.normpath(os.path.join(self.path, expanded))
        inside = _below(absolute, self.path) or _below(absolute, self.given)
        if inside is None and not os.path.isabs(expanded):
            raise LeadsOutError(f"{path} leads out of {self.path}")
        if inside is None:
            return Place(
                absolute, os.path.realpath(os.path.dirname(absolute)), (os.path.basename(absolute),), False
            )
        real = os.path.realpath(os.path.join(self.path, *inside[:-1]))
        parents = () if real == self.path else _below(real, self.path)
        if parents is None:
            raise LeadsOutError(
                f"{absolute} lies behind a link that leads out of {self.path}: remove the link"
            )
        return Place(os.path.join(self.path, *inside), self.path, (*parents, *inside[-1:]), True)


def _below(path: str, base: str) -> tuple[str, ...] | None:
    """The parts of ``path`` below ``base``, or None if it is not below."""
    prefix = base.rstrip(os.sep) + os.sep
    return tuple(path[len(prefix) :].split(os.sep)) if path.startswith(prefix) else None


def _writable_ancestor(path: str) -> bool:
    return os.access(nearest_folder(path), os.W_OK | os.X_OK)


def nearest_folder(path: str) -> str:
    """``path`` or the nearest parent of it that is there."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


class Folder:
    """An open folder; names are taken relative to it, links are not followed."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    def _at(self, name: str) -> tuple[str, dict[str, Any]]:
        return (name, {"dir_fd": self._fd}) if _AT else (os.path.join(self.path, name), {})

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A file descriptor; a link in the last place is refused where the system can tell."""
        path, at = self._at(name)
        return os.open(path, flags | _NOFOLLOW | _BINARY, mode, **at)

    def stat(self, name: str) -> os.stat_result | None:
        """What lies under ``name``, a link itself included; None if nothing does."""
        path, at = self._at(name)
        try:
            return os.lstat(path, **at)
        except FileNotFoundError:
            return None

    def link(self, name: str) -> str:
        """Where the link ``name`` points to."""
        path, at = self._at(name)
        return os.readlink(path, **at)

    def replace(self, old: str, new: str) -> None:
        """Renames ``old`` over ``new`` in one step."""
        if _AT:
            os.replace(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        else:
            os.replace(os.path.join(self.path, old), os.path.join(self.path, new))

    def unlink(self, name: str) -> None:
        """Removes the file or link ``name``."""
        path, at = self._at(name)
        os.unlink(path, **at)

    def names(self) -> list[str]:
        """What is in the folder."""
        return sorted(os.listdir(self._fd if _AT else self.path))

    def chmod(self, mode: int) -> None:
        """Sets the folder's own mode."""
        os.chmod(self._fd if _AT else self.path, mode)

    def sync(self) -> None:
        """Makes renames and removals in this folder survive a loss of power."""
        if _AT:
            os.fsync(self._fd)

    def down(self, name: str, make: int | None = None) -> Folder:
        """The folder ``name`` in this one; made with the mode ``make`` if it is not there."""
        path, at = self._at(name)
        if make is not None and self.stat(name) is None:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, make, **at)
            self.sync()
        if not _AT:
            return Folder(path, -1)
        return Folder(
            os.path.join(self.path, name), os.open(path, os.O_RDONLY | _DIRECTORY | _NOFOLLOW, **at)
        )

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)


@contextlib.contextmanager
def opened(base: str, parts: tuple[str, ...] = (), make: int | None = None) -> Iterator[Folder]:
    """The folder ``parts`` below the real folder ``base``; missing ones are made with the mode ``make``."""
    folder = Folder(base, os.open(base, os.O_RDONLY | _DIRECTORY) if _AT else -1)
    try:
        for part in parts:
            deeper = folder.down(part, make)
            folder.close()
            folder = deeper
        yield folder
    finally:
        folder.close()


@contextlib.contextmanager
def parent(place: Place, make: int | None = None) -> Iterator[Folder]:
    """The folder that holds a file."""
    with opened(place.base, place.parts[:-1], make) as folder:
        yield folder


class Present(NamedTuple):
    """What a file is now; ``status`` as in the probe's answer, ``data`` None unless it was read."""

    status: str
    data: bytes | None = None
    found: os.stat_result | None = None
    target: str | None = None

    @property
    def sha256(self) -> str | None:
        """The hash of the bytes as they lie there."""
        return None if self.data is None else hashlib.sha256(self.data).hexdigest()

    @property
    def mode(self) -> int | None:
        """The permission bits."""
        return None if self.found is None else stat.S_IMODE(self.found.st_mode)


def present(root: Root, path: str) -> Present:
    """Reads a file. Never raises for what may be found there: the status tells."""
    try:
        place = root.locate(path)
        with parent(place) as folder:
            return look(folder, place.name)
    except LeadsOutError:
        return Present("leads_out")
    except (FileNotFoundError, NotADirectoryError):
        return Present("absent")
    except OSError:
        return Present("unreadable")


def look(folder: Folder, name: str) -> Present:
    """What lies under ``name`` in an open folder."""
    found = folder.stat(name)
    if found is None:
        return Present("absent")
    if stat.S_ISLNK(found.st_mode):
        return Present("link", found=found, target=folder.link(name))
    if not stat.S_ISREG(found.st_mode):
        return Present("folder" if stat.S_ISDIR(found.st_mode) else "other", found=found)
    try:
        return Present("file", _read(folder, name), found)
    except OSError:
        return Present("unreadable", found=found)


def _read(folder: Folder, name: str) -> bytes:
    with open(folder.open(name, os.O_RDONLY), "rb") as file:
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise OSError(errno.EFBIG, f"longer than {LONGEST >> 20} MB: not a document")
    return data


def same_file(before: os.stat_result | None, now: os.stat_result | None) -> bool:
    """Whether nobody replaced or wrote the file in between."""
    if before is None or now is None:
        return before is now
    return (before.st_ino, before.st_mtime_ns, before.st_size) == (now.st_ino, now.st_mtime_ns, now.st_size)


def replace_file(
    folder: Folder, name: str, data: bytes, *, mode: int, owner: tuple[int, int] | None = None
) -> None:
    """Puts ``data`` under ``name`` in one step: old or new, never half, whenever the power goes.

    A link in that place is replaced, not followed. On an error the old file is intact and nothing is left.
    """
    temporary = f"{TEMPORARY}{os.getpid()}-{os.urandom(6).hex()}.tmp"
    try:
        _fill(folder.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), data, mode, owner)
        folder.replace(temporary, name)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.unlink(temporary)
        raise
    folder.sync()


def _fill(fd: int, data: bytes, mode: int, owner: tuple[int, int] | None) -> None:
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        if hasattr(os, "fchown") and owner is not None and owner != _mine(fd):
            os.fchown(fd, *owner)
        if hasattr(os, "fchmod"):
            os.fchmod(fd, mode)
        os.fsync(fd)


def _mine(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_uid, found.st_gid


def set_mode(folder: Folder, name: str, mode: int) -> None:
    """Changes the permission bits of a file, never those of a link's target."""
    fd = folder.open(name, os.O_RDONLY)
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(fd, mode)
    finally:
        os.close(fd)


def sweep(folder: Folder, *, ours: bool) -> None:
    """Removes what a killed run left unfinished; in a folder that is not ours only that of dead processes."""
    for name in folder.names():
        if name.startswith(TEMPORARY) and name.endswith(".tmp") and (ours or not _writer_lives(name)):
            with contextlib.suppress(OSError):
                folder.unlink(name)


def _writer_lives(name: str) -> bool:
    pid = name[len(TEMPORARY) :].partition("-")[0]
    if os.name != "posix" or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
