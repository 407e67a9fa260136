"""From the name of a remedy to what is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from calm.heal import hostfiles, prune
from calm.heal.actions_docker import Containers
from calm.heal.actions_lmstudio import LMStudio, Patience
from calm.heal.model import Finding, Outcome

if TYPE_CHECKING:
    from calm.settings import Settings


class HostActs:
    """The acts on this host: :class:`calm.heal.healer.Acts`."""

    def __init__(self, settings: Settings, root: Path, patience: Patience | None = None) -> None:
        self._settings, self._root = settings, root
        self._lmstudio = LMStudio(settings, patience)
        self._containers = Containers(settings, root)

    def act(self, finding: Finding, attempt: int) -> Outcome:
        """Carry out the finding's action; ``attempt`` is the rung of the ladder, from 1."""
        match finding.action:
            case "end":
                return self._lmstudio.end(finding)
            case "restart":
                return self._lmstudio.restart(finding)
            case "start-server":
                return self._lmstudio.start_server(finding, attempt)
            case "unload":
                return self._lmstudio.unload(finding)
            case "end-process":
                return self._lmstudio.end_process(finding)
            case "restart-container":
                return self._containers.restart(finding, attempt)
            case "start-container":
                return self._containers.start(finding, attempt)
            case "recreate":
                return self._containers.recreate(finding)
            case "prune":
                return self._prune(finding)
        raise ValueError(f"no rule names the action {finding.action!r}")

    def helped(self, finding: Finding, *, began: float, now: float) -> bool | None:
        """Whether the trouble is gone; ``None`` while that cannot be told. Both times on one clock."""
        if finding.action == "prune":
            return True
        if finding.target.startswith("container:"):
            return self._containers.helped(finding, began=began, now=now)
        return self._lmstudio.helped(finding)

    def _prune(self, finding: Finding) -> Outcome:  # noqa: ARG002
        import time

        import requests
        from docker.errors import DockerException

        wanted = hostfiles.record(self._root).wanted.values()
        try:
            pieces = prune.remove(prune.survey(self._settings, now=time.time(), wanted=tuple(wanted)))
        except (DockerException, requests.RequestException) as error:
            return Outcome(result="failed", says=f"the Docker engine: {error}"[:300])
        return _pruned(pieces)


def _pruned(pieces: tuple[prune.Piece, ...]) -> Outcome:
    going = [piece for piece in pieces if piece.stays is None]
    failed = [piece for piece in going if piece.failed]
    if failed:
        return Outcome(result="failed", says=f"{failed[0].name}: {failed[0].failed}")
    freed = sum(piece.bytes or 0 for piece in going)
    return Outcome(result="done", says=f"removed {len(going)} things, {freed / 2**20:.0f} MB")
