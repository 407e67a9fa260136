"""Junk that Docker leaves lying about: what is ours and old goes, everything else is told and stays.

Never a volume: no call here can remove one. Volumes of a removed container are kept (``v=False``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from calm.health import engine
from calm.health.containers import OWNED, PROJECT

if TYPE_CHECKING:
    from docker import APIClient

    from calm.settings import Settings

_STOPPED = ["exited", "dead", "created"]
Kind = Literal["container", "image", "build cache"]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One thing. ``stays`` says why it is not removed, ``None`` if it goes. ``failed`` is what went wrong."""

    kind: Kind
    id: str
    name: str
    bytes: int | None
    stays: str | None = None
    failed: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "id": self.id[:19],
            "name": self.name,
            "bytes": self.bytes,
            "stays": self.stays,
            "failed": self.failed,
        }


def survey(
    settings: Settings, *, now: float, older_than: float | None = None, wanted: Collection[str] = ()
) -> tuple[Piece, ...]:
    """Everything that could be junk, with what is to become of it; ``now`` in seconds since the epoch.

    ``wanted`` are the containers of the stack as it stands: stopped or not, they are no junk.

    Raises ``docker.errors.DockerException`` or ``requests.RequestException`` if the engine does not answer.
    """
    client = engine.connect(timeout=60)
    age = settings.healing.prune.older_than if older_than is None else older_than
    used = {each["ImageID"] for each in client.containers(all=True)}
    return (
        *_containers(client, settings, now - age, wanted),
        *_images(client, settings, used, now - age),
        *_cache(client, settings, now - age),
    )


def remove(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Remove what :func:`survey` said goes; each piece as it came out."""
    client = engine.connect(timeout=60)
    return tuple(_removed(client, piece) for piece in pieces)


def _removed(client: APIClient, piece: Piece) -> Piece:
    from docker.errors import APIError, NotFound

    if piece.stays is not None:
        return piece
    try:
        match piece.kind:
            case "container":
                # Not by force: one that runs by now is refused by the engine itself.
                client.remove_container(piece.id, v=False, force=False)
            case "image":
                client.remove_image(piece.id, force=False, noprune=False)
            case "build cache":
                only: Any = {"id": piece.id}
                client.prune_builds(filters=only, all=True)
    except NotFound:
        return piece
    except APIError as error:
        return replace(piece, failed=str(error.explanation or error)[:200])
    return piece


def _containers(
    client: APIClient, settings: Settings, before: float, wanted: Collection[str]
) -> Iterator[Piece]:
    stopped: Any = {"status": _STOPPED}
    for each in client.containers(all=True, size=True, filters=stopped):
        name = (each.get("Names") or [each["Id"][:12]])[0].lstrip("/")
        labels = each.get("Labels") or {}
        ours = OWNED in labels and settings.docker.project in (labels[OWNED], labels.get(PROJECT))
        stays = _why_stays(ours, _stopped_at(client, each) if ours else 0.0, before)
        if ours and name in wanted:
            stays = "it is part of the stack; calm up starts it"
        yield Piece(kind="container", id=each["Id"], name=name, bytes=each.get("SizeRw"), stays=stays)


def _stopped_at(client: APIClient, container: Mapping[str, Any]) -> float:
    """When it last did something, in seconds since the epoch."""
    from docker.errors import NotFound

    try:
        finished = client.inspect_container(container["Id"])["State"].get("FinishedAt")
    except NotFound:
        return float(container["Created"])
    never = not finished or finished.startswith("0001-")
    return float(container["Created"]) if never else _moment(finished) or 0.0


def _images(client: APIClient, settings: Settings, used: set[str], before: float) -> Iterator[Piece]:
    for each in client.images(filters={"dangling": True}):
        labels = each.get("Labels") or {}
        ours = settings.docker.project in (labels.get(OWNED), labels.get(PROJECT))
        stays = _why_stays(ours, each["Created"], before)
        if each["Id"] in used:
            stays = "a container is made of it"
        yield Piece(kind="image", id=each["Id"], name=each["Id"][7:19], bytes=_own_bytes(each), stays=stays)


def _cache(client: APIClient, settings: Settings, before: float) -> Iterator[Piece]:
    # Asked for alone (API 1.42, Docker 23): the whole of /system/df measures every volume as well.
    url = f"{client.base_url}/v{client.api_version}/system/df"
    answer = client.get(url, params={"type": "build-cache"}, timeout=60)
    answer.raise_for_status()
    for each in answer.json().get("BuildCache") or ():
        last = _moment(each.get("LastUsedAt") or each.get("CreatedAt"))
        stays = None
        if each.get("InUse"):
            stays = "in use"
        elif not settings.healing.prune.build_cache:
            stays = "build cache carries no owner's label; healing.prune.build_cache takes it along"
        elif last is None or last > before:
            stays = "not old enough"
        yield Piece(
            kind="build cache",
            id=each["ID"],
            name=str(each.get("Description") or each["ID"])[:60],
            bytes=each.get("Size"),
            stays=stays,
        )


def _why_stays(ours: bool, last: float, before: float) -> str | None:
    if not ours:
        return "not calm's: docker container prune or docker image prune would take it"
    return None if last <= before else "not old enough: --older-than takes it sooner"


def _own_bytes(image: Mapping[str, Any]) -> int | None:
    """What would come free: its size without what other images share, where the engine tells."""
    size, shared = image.get("Size"), image.get("SharedSize", -1)
    return None if size is None else int(size - max(shared, 0))


def _moment(text: str | None) -> float | None:
    return None if not text else datetime.fromisoformat(text).timestamp()
