"""Carries out a list of small effects on a host: each compares first, and the first failure skips the rest.

An effect with ``always`` is carried out even then: it undoes what an earlier one began.

Every effect is a function ``(run, effect) -> Outcome`` in one of the modules named in `EFFECTS`; it raises
`RefusedError`, or an ``OSError``, for what it does not do.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any, Callable

from calm.onhost import lock
from calm.onhost.errors import RefusedError, explain, place_of
from calm.onhost.files import opened, sweep
from calm.onhost.run import Outcome, Run

EFFECTS = {
    "lock": "lock_effects",
    "unlock": "lock_effects",
    "folder": "file_effects",
    "write": "file_effects",
    "merge_json": "file_effects",
    "remove_file": "file_effects",
    "restore": "backup_effects",
    "backup_generation": "backup_effects",
    "record": "backup_effects",
    "journal": "journal_effects",
    "secret": "secret_effects",
    "take_secret": "secret_effects",
    "run": "command_effects",
    "compose": "command_effects",
    "volume": "container_effects",
    "network_remove": "container_effects",
    "container": "container_effects",
    "wait_healthy": "container_effects",
    "redis_set": "server_effects",
    "postgres_password": "server_effects",
    "postgres_reset_role": "server_effects",
    "prove_login": "server_effects",
    "lmstudio": "lmstudio_effects",
}
"""The module that knows each effect, by the name that stands in its ``do``."""

FOREIGN = {
    **dict.fromkeys(("agent", "agent_remove"), "agent_effects"),
    **dict.fromkeys(("systemd_unit", "systemd_remove", "crontab", "launchd", "task"), "schedule_effects"),
}
"""Effects of the other form ``(effect, root) -> message``, in their module's ``EFFECTS``."""

UNLOCKED = ("lock", "unlock")
"""What may be asked for while another run holds the lease."""


def main(request: dict[str, Any]) -> int:
    """Prints the results as one line of JSON, failures also to stderr; 0 if all is done, else 1."""
    try:
        results = carry_out(request)
    except Exception as error:
        sys.stdout.write(json.dumps({"schema": 1, "results": [], "error": _said(error, "")}) + "\n")
        sys.stderr.write(_said(error, "") + "\n")
        return 1
    sys.stdout.write(json.dumps({"schema": 1, "results": results}) + "\n")
    failed = [one["message"] for one in results if one["status"] == "failed"]
    sys.stderr.write("".join(f"{message}\n" for message in failed))
    return 1 if failed else 0


def carry_out(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of ``request["effects"]``, in their order.

    A result is ``{"do", "target", "status": done|unchanged|failed|skipped, "message", "took_ms", …}``.
    """
    run = Run(request)
    effects = request["effects"]
    try:
        if run.root.status() == "absent" and all(effect["do"] == "unlock" for effect in effects):
            return [_result(effect, Outcome("unchanged"), 0) for effect in effects]
        _prepare(run)
        with lock.working(run.root):
            return _in_order(run, effects)
    except (RefusedError, OSError) as error:
        return _all_refused(effects, _said(error, run.root.path))


def _prepare(run: Run) -> None:
    """The root has to be there to be locked; nothing else is made before the lock is held."""
    status = run.root.status()
    if status == "file":
        raise RefusedError(f"{run.root.path} is a file where calm's folder should be: move it away")
    if status == "absent":
        os.makedirs(run.root.path, 0o755, exist_ok=True)


def _in_order(run: Run, effects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    _sweep(run, effects)
    results: list[dict[str, Any]] = []
    for effect in effects:
        if any(one["status"] == "failed" for one in results) and not effect.get("always"):
            results.append(_result(effect, Outcome("skipped", "skipped, since an earlier step failed"), 0))
        else:
            results.append(_one(run, effect))
    return results


def _one(run: Run, effect: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        if effect["do"] not in UNLOCKED:
            lock.check(run.root, run.run)
            lock.renew(run.root, run.run)
        outcome = _known(effect["do"])(run, effect)
        if effect["do"] not in UNLOCKED:
            lock.renew(run.root, run.run)
    except Exception as error:
        outcome = Outcome("failed", run.masker.hide(_said(error, effect.get("path") or run.root.path)))
    return _result(effect, outcome, (time.perf_counter() - began) * 1000)


def _known(do: str) -> Callable[[Run, dict[str, Any]], Outcome]:
    if do in EFFECTS:
        return getattr(importlib.import_module(f"calm.onhost.{EFFECTS[do]}"), do)  # type: ignore[no-any-return]
    if do in FOREIGN:
        foreign = importlib.import_module(f"calm.onhost.{FOREIGN[do]}").EFFECTS[do]
        return lambda run, effect: Outcome("done", foreign(effect, run.root.path))
    raise RefusedError(f"this version of calm does not know the effect {do}")


def _said(error: BaseException, path: str) -> str:
    """The sentence for a person."""
    if isinstance(error, OSError):
        named = error.filename if isinstance(error.filename, str) and os.path.isabs(error.filename) else path
        return explain(error, named)
    if isinstance(error, RefusedError) or type(error).__module__.startswith("calm.onhost"):
        return str(error)
    return f"this step failed unexpectedly ({place_of(error)}): please report this"


def _result(effect: dict[str, Any], outcome: Outcome, took_ms: float) -> dict[str, Any]:
    names = ("path", "name", "container", "project")
    target = next((effect[name] for name in names if isinstance(effect.get(name), str)), None)
    return {
        "do": effect["do"],
        "target": target or " ".join(map(str, effect.get("argv") or ())) or None,
        "status": outcome.status,
        "message": outcome.message,
        "took_ms": round(took_ms, 1),
        **outcome.more,
    }


def _all_refused(effects: list[dict[str, Any]], message: str) -> list[dict[str, Any]]:
    first = [_result(effect, Outcome("failed", message), 0) for effect in effects[:1]]
    skipped = Outcome("skipped", "skipped, since an earlier step failed")
    return first + [_result(effect, skipped, 0) for effect in effects[1:]]


def _sweep(run: Run, effects: list[dict[str, Any]]) -> None:
    """Removes the unfinished files of runs that were killed, in the folders that this run works in."""
    for parts in ((), ("docker",), ("secrets",), ("backups",), ("outputs",)):
        try:
            with opened(run.root.path, parts) as folder:
                sweep(folder, ours=True)
        except OSError:
            continue  # it is not there, or not a folder; whoever needs it will say so
    for effect in effects:
        if isinstance(effect.get("path"), str):
            _sweep_beside(run, effect["path"])


def _sweep_beside(run: Run, path: str) -> None:
    try:
        place = run.root.locate(path)
        with opened(place.base, place.parts[:-1]) as folder:
            sweep(folder, ours=place.below)
    except (OSError, RefusedError):
        return
