"""What can go wrong on a host, said in words for a person."""

from __future__ import annotations

import errno


class RefusedError(Exception):
    """Something that is not done; its text says what happened and what to do, and holds no secret."""


class LeadsOutError(RefusedError):
    """A link below the root leads out of it."""


class UnavailableError(RefusedError):
    """The Docker Engine does not answer: ``what`` happened, and its text says what to do, too.

    ``status`` is ``down``, ``denied`` or ``absent``.
    """

    def __init__(self, status: str, what: str, advice: str) -> None:
        super().__init__(f"{what}: {advice}")
        self.status, self.what = status, what


class EngineRefusalError(RefusedError):
    """The Docker Engine answered a call with an error; ``code`` is its HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


_MEANINGS = {
    errno.ENOSPC: "the disk that holds {path} is full: free some space and run again",
    errno.EDQUOT: "the disk quota for {path} is used up: free some space and run again",
    errno.EROFS: "{path} lies on a read-only file system: mount it writable, or choose another root",
    errno.EACCES: "no right to {doing} {path}: give this user the right, or run as the user who owns it",
    errno.EPERM: "no right to {doing} {path}: give this user the right, or run as the user who owns it",
    errno.ENOTDIR: "a part of {path} is a file where a folder should be: move it away",
    errno.EISDIR: "{path} is a folder where a file should be: move it away",
    errno.ELOOP: "{path} is a symbolic link, which calm does not follow: replace it by what it points to",
    errno.ENOENT: "{path} does not exist",
    errno.ENAMETOOLONG: "the name {path} is too long for this file system",
}


def explain(error: OSError, path: str, doing: str = "write") -> str:
    """The sentence for an error of the operating system about ``path``."""
    meaning = _MEANINGS.get(error.errno or 0)
    if meaning is None:
        return f"cannot {doing} {path}: {error.strerror or type(error).__name__}"
    return meaning.format(path=path, doing=doing)


def place_of(error: BaseException) -> str:
    """Where an unexpected error came from, without its text, which might hold a secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{where}"
