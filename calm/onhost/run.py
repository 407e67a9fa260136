"""What all effects of one run share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from calm.onhost.errors import RefusedError
from calm.onhost.files import Root, look, opened
from calm.onhost.masking import Masker

if TYPE_CHECKING:
    from calm.onhost.docker_api import Engine


class Outcome:
    """How an effect ended: ``done`` or ``unchanged`` (``failed`` and ``skipped`` come from errors).

    ``more`` are further keys of the result.
    """

    def __init__(self, status: str, message: str | None = None, **more: Any) -> None:
        self.status, self.message, self.more = status, message, more


class Run:
    """The root, who runs this, the secrets that no message may show, and the engine once it is needed."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.root = Root(request["root"])
        self.run = {"id": "", "who": "somebody", **(request.get("run") or {})}
        self.digest_key: str | None = request.get("digest_key")
        self.masker = Masker(self.digest_key)
        self.notes: dict[str, Any] = {}  # what one effect leaves for a later one of the same run
        self._engine: Engine | None = None
        for value in secrets(self.root).values():
            self.masker.learn(value)

    @property
    def engine(self) -> Engine:
        """The engine of this host. Raises `UnavailableError` with what to do.

        Imported here, since most effects need none.
        """
        from calm.onhost.docker_api import Engine

        if self._engine is None:
            self._engine = Engine.found()
        return self._engine

    def secret(self, name: str) -> str:
        """A secret of this host. Raises `RefusedError` if it is not there."""
        value = secrets(self.root, (name,)).get(name)
        if not value:
            path = os.path.join(self.root.path, "secrets", name)
            raise RefusedError(f"the secret {name} is missing in {path}: apply makes it")
        return value


def secrets(root: Root, names: tuple[str, ...] = ()) -> dict[str, str]:
    """The secrets that lie on this host, all or those named; a link or folder there counts as none."""
    try:
        with opened(root.path, ("secrets",)) as folder:
            found = {name: look(folder, name).data for name in names or folder.names()}
    except OSError:
        return {}
    return {name: data.decode("utf-8", "replace") for name, data in found.items() if data}
