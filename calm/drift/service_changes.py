"""What differs between a service and its container, field by field, and who moved."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from calm.desired.compose import STAMP
from calm.desired.services import Service
from calm.drift.model import Change, Context, Json, Origin, origin_of
from calm.drift.running_values import wanted
from calm.drift.service_fields import ENVIRONMENT, LIVE, MOUNT, Fields, observed, variables
from calm.onhost.masking import HIDDEN, PLACEHOLDER, Masker, arguments, looks_secret

RUNNING = "running."
"""Values that a server has now, whatever its files say."""

PASSWORD = f"{RUNNING}password"
"""The one that a server asks for: it is not the one that this host keeps."""

RENEWED = f"{RUNNING}secrets"
"""Those that a container got when it started: it is started again once a server has another password."""

GRAIN = 65536
"""Bytes; a cgroup holds whole pages, of 64 KiB at most."""

_PLACEHOLDER = re.compile(f"{PLACEHOLDER}[0-9a-f]{{12}}")
_NO_KEY = "00" * 32
"""For masks that nobody compares."""

PROXIES = frozenset(
    case(f"{word}_proxy") for word in ("http", "https", "ftp", "no", "all") for case in (str.lower, str.upper)
)
"""Variables that Docker's own client gives every container where its configuration names proxies."""

_WELL = ("running", "restarting")
"""States that ask for nothing here: a container that crashes over and over is the agent's to heal."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A service and its container. ``entry`` is the service's part of the record, None if it has none."""

    context: Context
    service: Service
    container: Mapping[str, Any]
    want: Fields
    entry: Mapping[str, Json] | None

    def change(self, path: str, before: Json, after: Json) -> Change:
        """A difference of one field, with its origin."""
        sensitive = _is_sensitive(path, before, after)
        return Change(
            path=path,
            before=None if sensitive else _shown(before),
            after=None if sensitive else _shown(_masked(after)),
            sensitive=sensitive,
            origin=self._origin(path, before, after),
        )

    def _origin(self, path: str, before: Json, after: Json) -> Origin:
        if self.entry is None:
            return Origin.NEW
        if path == "stamp":
            return origin_of(recorded=self.entry.get("stamp"), before=before, after=after)
        recorded = (self.entry.get("fields") or {}).get(path)
        if recorded is None:
            # Not declared when calm last applied, or not kept because it is secret.
            same = self.entry.get("stamp") == self.service.stamp and path not in LIVE
            return Origin.HOST if same else Origin.SETTINGS
        return origin_of(recorded=recorded, before=before, after=after)


def kept_fields(want: Fields) -> Fields:
    """The declared fields as the record keeps them: without what is secret."""
    return {
        path: value
        for path, value in want.items()
        if not _is_sensitive(path, None, value) and _masked(value) == value
    }


def state(side: Side) -> tuple[Change, ...]:
    """Whether the container runs."""
    found = side.container["state"]
    if found in _WELL:
        return ()
    origin = Origin.NEW if side.entry is None else Origin.HOST
    return (Change(path="state", before=found, after="running", origin=origin),)


def live(side: Side) -> tuple[Change, ...]:
    """The limits that ``docker update`` puts right."""
    return tuple(change for change in _limits(side) if change.after is not None and not _is_quota(change))


def fixed(side: Side) -> tuple[Change, ...]:
    """What only a new container puts right."""
    found = [change for change in _limits(side) if change.after is None or _is_quota(change)]
    found += [*_fields(side), *_image(side), *_mounted(side), *_secrets(side), *_login(side)]
    return tuple(found) or _stamp(side)


def running(side: Side, *, stays: bool = False) -> tuple[Change, ...]:
    """The running values of redis and postgres that differ from the declared ones.

    With ``stays`` only those that a new container would have, too: what a role in the database sets. (Its
    password stays as well, but a new container of postgres is always given it.)
    """
    found = (_running(side).get("parameters") or {}).items()
    kept = _running(side).get("reset_by") or {}
    want = {
        name: value
        for name, value in wanted(side.context.settings, side.service.name).items()
        if name in kept or not stays
    }
    differing = tuple(
        Change(path=f"{RUNNING}{name}", before=before, after=want[name].text, origin=_host_or_new(side))
        for name, before in found
        if name in want and before is not None and not want[name].is_met_by(before)
    )
    return (*differing, *(() if stays else _password(side)))


def _password(side: Side) -> Iterator[Change]:
    if _running(side).get("has_password") is False:
        yield Change(path=PASSWORD, before=None, after=None, sensitive=True, origin=_host_or_new(side))


def renewed(side: Side) -> tuple[Change, ...]:
    """Whether the container uses a password that its server is about to be given."""
    found = side.context.state.get("running") or {}
    servers = [
        name
        for name in ("postgres", "redis")
        if name != side.service.name
        and f"{name}_password" in side.service.secrets
        and (found.get(name) or {}).get("has_password") is False
    ]
    if not servers or side.container["state"] not in _WELL:
        return ()
    after = f"read again, since {' and '.join(servers)} will ask for the kept password"
    return (Change(path=RENEWED, before="as it started", after=after, origin=_host_or_new(side)),)


def _limits(side: Side) -> Iterator[Change]:
    have = observed(side.container)
    for path in LIVE:
        after, before = side.want.get(path), have[path]
        if path == "swap" and side.context.state["docker"].get("swap_limit") is False:
            continue  # this kernel counts no swap, whatever it is told
        if after is None:
            if before and before != "no" and path in ((side.entry or {}).get("fields") or {}):
                yield Change(path=path, before=before, after=None, origin=Origin.SETTINGS)
        elif before != after:
            yield side.change(path, before, after)
    yield from _cgroup(side, have)


def _cgroup(side: Side, have: Fields) -> Iterator[Change]:
    """Inspect says what Docker was told; the cgroup what the kernel holds the container to."""
    real, after = side.container.get("cgroup_memory"), side.want.get("memory")
    if real is None or after is None or have["memory"] != after:
        return
    if abs(real - after) >= GRAIN:
        yield Change(path="memory.cgroup", before=real, after=after, origin=_host_or_new(side))


def _is_quota(change: Change) -> bool:
    """NanoCpus and CpuQuota exclude each other, and update takes neither away."""
    return change.path == "cpus" and isinstance(change.before, str)


def _fields(side: Side) -> Iterator[Change]:
    have = observed(side.container)
    for path, after in side.want.items():
        before = have.get(path)
        if path not in LIVE and not _same(side, before, after):
            yield side.change(path, before, after)
    yield from _added_variables(side)


def _added_variables(side: Side) -> Iterator[Change]:
    """Variables of a container under our stamp that neither its image nor its service sets.

    What stands in an ``env_file`` is not known here, so a service with one is not looked at.
    """
    brought = (side.context.state.get("image_env") or {}).get(side.container["image_id"])
    labelled = (side.container.get("labels") or {}).get(STAMP) == side.service.stamp
    if brought is None or not labelled or "env_file" in side.service.spec:
        return
    known = variables(side.service.spec) | PROXIES
    for name, value in side.container["env"].items():
        if name not in known and brought.get(name) != value:
            yield side.change(f"{ENVIRONMENT}{name}", value, brought.get(name))


def _same(side: Side, before: Json, after: Json) -> bool:
    if isinstance(before, Mapping) and set(before) == {"digest"}:
        return bool(before["digest"] == Masker(side.context.digest_key).digest(str(after)))
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        masker = Masker(side.context.digest_key)
        return all(_is_word(masker, one, other) for one, other in zip(before, after, strict=True))
    return bool(before == after)


def _is_word(masker: Masker, before: Json, after: Json) -> bool:
    """Whether a word of a command line is the same, where the probe has masked what is secret in it."""
    if before == after or not (isinstance(before, str) and isinstance(after, str)):
        return bool(before == after)
    parts = _PLACEHOLDER.split(before)
    found = re.fullmatch("(.+?)".join(map(re.escape, parts)), after, re.DOTALL)
    digests = _PLACEHOLDER.findall(before)
    return found is not None and [masker.placeholder(one) for one in found.groups()] == digests


def _masked(value: Json) -> Json:
    """A command line without the secrets in it, as the probe masks one; any other value as it is."""
    return arguments(value, Masker(_NO_KEY)) if isinstance(value, list) and _are_words(value) else value


def _are_words(value: list[Json]) -> bool:
    return all(isinstance(word, str) for word in value)


def _image(side: Side) -> Iterator[Change]:
    """The name may stand for another image by now."""
    name = side.want.get("image")
    now, used = (side.context.state.get("images") or {}).get(name), side.container["image_id"]
    if side.container["image"] == name and now is not None and now != used:
        yield Change(path="image_id", before=used[:19], after=now[:19], origin=_host_or_new(side))


def _mounted(side: Side) -> Iterator[Change]:
    """A file that is replaced by rename stays the old one in the container until that is made anew."""
    recorded = side.context.record.get("documents") or {}
    files = {entry["path"]: (identity, entry) for identity, entry in side.context.state["files"].items()}
    for path, content in side.service.documents.items():
        identity, entry = files.get(path, ("", {}))
        digest = hashlib.sha256(content.encode()).hexdigest()
        if entry.get("sha256") == digest and entry["status"] == "file":
            continue
        before = entry.get("sha256") or entry.get("status")
        origin = origin_of(recorded=(recorded.get(identity) or {}).get("sha256"), before=before, after=digest)
        name = path.rpartition("/")[2]
        yield Change(path=f"{MOUNT}{name}", before=_short(before), after=_short(digest), origin=origin)


def _secrets(side: Side) -> Iterator[Change]:
    """A secret that is given anew, or missing, reaches the container only with a new one."""
    found = side.context.state["secrets"]["values"]
    for name in side.service.secrets:
        entry = found.get(name) or {"status": "absent"}
        given = side.context.secrets.get(name)
        changed = given is not None and Masker(side.context.digest_key).digest(given) != entry.get("digest")
        if changed or entry["status"] == "absent" or _has_old_variable(side, name, entry):
            origin = _host_or_new(side) if given is None or side.entry is None else Origin.SETTINGS
            yield Change(path=f"secrets.{name}", before=None, after=None, sensitive=True, origin=origin)


def _has_old_variable(side: Side, name: str, entry: Mapping[str, Json]) -> bool:
    """A secret that is handed over in the environment, from before it changed."""
    if "env_file" not in side.service.spec:
        return False
    return bool(side.container["env"].get(name.upper()) != {"digest": entry.get("digest")})


def _login(side: Side) -> Iterator[Change]:
    """redis does not take the password that is mounted: the container holds an older one."""
    error = str(_running(side).get("error") or "")
    if side.service.name == "redis" and ("WRONGPASS" in error or "NOAUTH" in error):
        yield Change(path=f"{RUNNING}login", before="refused", after="accepted", origin=_host_or_new(side))


def _stamp(side: Side) -> tuple[Change, ...]:
    """The hash of the whole, for whatever has no field of its own."""
    before = (side.container.get("labels") or {}).get(STAMP)
    if before == side.service.stamp:
        return ()
    return (side.change("stamp", before, side.service.stamp),)


def _running(side: Side) -> Mapping[str, Json]:
    found: Mapping[str, Json] = (side.context.state.get("running") or {}).get(side.service.name) or {}
    return found


def _host_or_new(side: Side) -> Origin:
    return Origin.NEW if side.entry is None else Origin.HOST


def _is_sensitive(path: str, before: Json, after: Json) -> bool:
    if path.startswith(ENVIRONMENT) and looks_secret(path.removeprefix(ENVIRONMENT)):
        return True
    hidden = isinstance(before, Mapping) and set(before) == {"digest"}
    return hidden or any(Masker().holds_secret(one) for one in (before, after) if isinstance(one, str))


def _shown(value: Json) -> Json:
    """A value without the placeholders that the probe puts in place of secrets."""
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return _PLACEHOLDER.sub(HIDDEN, value) if isinstance(value, str) else value


def _short(digest: str | None) -> str | None:
    return digest[:12] if digest else None
