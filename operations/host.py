"""The frame around the other operations: look first, lock before the first change, record at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
from pyinfra import host
from pyinfra.api import operation

from calm.desired.templates import TemplateError, prepare
from calm.drift import host as drift
from calm.drift.model import Context
from calm.drift.place import missing_directory
from calm.drift.record import after
from calm.drift.removal import removal
from calm.fleet import board, pushed
from calm.fleet.agreed import Agreed
from calm.fleet.choice import UnknownResourceError
from calm.fleet.connection import PROBE_SECONDS
from calm.fleet.generations import NoGenerationError, history
from calm.fleet.layers import layers
from calm.onhost.errors import place_of
from calm.release import fingerprint
from calm.settings import Settings
from calm.settings.dump import to_json
from calm.settings.load import SettingsError, load
from calm.settings.secrets import resolve
from facts.health import Health
from facts.host import State
from operations._resource import Commands, effects, failing, remember

_PYTHON_HINT = "calm needs Python 3.9 or newer there, as `python3`. On Debian: apt-get install python3."
_PROBE_HINTS = (
    ("no answer", f"It has {PROBE_SECONDS} s for it. Does `ssh HOST python3 --version` answer?"),
    ("sudo", "Give it as _sudo_password=os.environ[…] in the inventory, or let sudo not ask this user."),
)

# pyinfra 3.10.0 hands it to its askpass script in the environment that it names in argv (connectors/util.py).
_PASSWORD_SHOWS = "; its password is in the host's list of processes meanwhile, so better let it ask for none"

CHECKOUT = Path(__file__).resolve().parent.parent
LEASE_SECONDS = 120

ASKED_SECONDS = 0.02
"""After so long the question is on its way, and this process has nothing to do until the answer comes."""


def begin() -> None:
    """Read the settings and the state of this host, compare them, and lock it if there is work.

    A host that cannot be read, or whose settings are wrong, gets no further operation.
    """
    run = board.current().host(host.name)
    try:
        _look(run)
    except NoGenerationError as error:
        run.error = board.HostError(
            code="generation",
            message=str(error),
            hint="`calm plan` shows what the settings of now would change.",
        )
    except TemplateError as error:
        run.error = board.HostError(code="template", message=str(error), hint=error.hint)
    except SettingsError as error:
        run.error = board.HostError(
            code="settings", message=str(error), hint="Correct the settings; `calm validate` checks them."
        )
    except UnknownResourceError:
        raise
    except Exception as error:  # a mistake of calm's own over one host must not end the run for the others
        run.error = board.HostError(
            code="bug",
            message=f"This host could not be compared ({place_of(error)}).",
            hint="That is a mistake in calm; please report it. Nothing was changed there.",
        )
    if run.error is not None:
        remember(run, "host", refuse(reason=run.error.message, name="host"))
    elif run.drift is not None and run.drift.pending:
        remember(run, "lock", lock(name="lock"))


def finish() -> None:
    """Record what was applied, free the lock, and fail the host if anything failed."""
    run = board.current().host(host.name)
    if run.error is None and run.drift is not None and run.drift.pending:
        remember(run, "record", record(name="record"))


@operation()
def refuse(reason: str) -> Commands:
    """Fail this host with ``reason``."""
    yield failing(reason)


@operation()
def lock() -> Commands:
    """Take the lock of this host, or renew it if this run holds it already."""
    yield effects(({"do": "lock", "lease_s": LEASE_SECONDS, "force": board.current().force},))


@operation()
def record() -> Commands:
    """Write the record of what is applied now, and free the lock; fail if any resource failed."""
    run = board.current().host(host.name)
    assert run.drift is not None
    assert run.state is not None
    failed = run.failed()
    closing: tuple[Mapping[str, Any], ...] = (
        {"do": "record", "values": _recorded(run, failed)},
        {"do": "journal", "body": _told(run, failed)},
    )
    if not board.current().lock_held:
        closing += ({"do": "unlock"},)
    yield effects(closing)
    if failed:
        yield failing(f"not converged: {', '.join(failed)}")


def _told(run: board.HostRun, failed: tuple[str, ...]) -> dict[str, Any]:
    """What the host's journal keeps of this apply: no value, only what was done to what."""
    assert run.drift is not None
    return {
        "resources": [
            {
                "id": resource.id,
                "action": resource.action.value,
                "result": "failed" if resource.id in failed else "changed",
            }
            for resource in run.drift.pending
        ]
    }


def _recorded(run: board.HostRun, failed: tuple[str, ...]) -> dict[str, Any]:
    """What the record has to say now. A remove that failed in part leaves it as it was."""
    assert run.drift is not None
    assert run.state is not None
    assert run.settings is not None
    old = run.state.get("record") or {}
    if board.current().desired == "absent":
        return {} if failed else dict(run.drift.record)
    settings = to_json(run.settings)
    return {
        **after(old, run.drift.record, failed=(*failed, *run.passed_over)),
        "applied_at": run.state["host"]["now"],
        "generation": int(old.get("generation") or 0) + 1,
        "settings": settings,
        "history": history(old, settings),
    }


def _look(run: board.HostRun) -> None:
    now = board.current()
    settings = load(layers(host.inventory, host.name, host.groups, source=now.source), host=host.name)
    given = resolve(settings)
    run.settings = settings
    request = drift.request(settings, digest_key=run.digest_key)
    gevent.spawn_later(ASKED_SECONDS, prepare)
    state = _read(drift.merged(request, now.reads))
    run.becomes = _becomes()
    run.error = _unreadable(state)
    if run.error is not None:
        return
    if now.snapshots and (state.get("agent") or {}).get("release"):
        run.health = host.get_fact(Health, root=state["root"]["path"], _timeout=PROBE_SECONDS)
    if now.settings_for is not None:
        run.settings = now.settings_for(settings, state.get("record") or {})
    run.state = {**state, "controller": {"release": _release(run.settings)}}
    context = Context(
        settings=run.settings,
        state=run.state,
        record=state.get("record") or {},
        secrets=given,
        digest_key=run.digest_key,
    )
    run.error = _directory(context) if now.desired == "present" else None
    if run.error is not None:
        return
    compare = drift.compare if now.desired == "present" else removal
    whole = compare(context)
    run.drift = now.chosen(whole)
    chosen = {resource.id for resource in run.drift.resources}
    run.passed_over = tuple(resource.id for resource in whole.pending if resource.id not in chosen)
    run.error = _moved(run, now.agreed)


def _release(settings: Settings) -> str | None:
    return fingerprint(CHECKOUT) if settings.agent.enabled else None


def _read(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return host.get_fact(
            State,
            python=pushed.python(host),
            _stdin=pushed.payload(host, "probe", dict(request)),
            _timeout=PROBE_SECONDS,
        )
    except EOFError:  # pyinfra asks for a password where nobody can answer
        return {"error": "sudo asks for a password there"}


def _becomes() -> str | None:
    """As whom commands run on this host, if not as whoever logs in; a plan says it."""
    found = pushed.becomes(host)
    if found is None:
        return None
    way, user = found
    said = f"{user}, by {way}: the inventory asks for it"
    return said + (_PASSWORD_SHOWS if host.data.get(f"_{way}_password") else "")


def _moved(run: board.HostRun, agreed: Agreed | None) -> board.HostError | None:
    """Refuse a host on which something else is pending now than the plan that was agreed to had."""
    if agreed is None or run.drift is None:
        return None
    surprises = agreed.surprises(run.name, run.drift)
    if not surprises:
        return None
    return board.HostError(
        code="moved",
        message=f"The host or its settings have changed since the plan: {', '.join(surprises)}.",
        hint="Nothing was changed. Look at a new plan and apply that.",
    )


def _unreadable(state: Mapping[str, Any]) -> board.HostError | None:
    if "error" not in state or state["error"] is None:
        return _rootless(state)
    said = str(state["error"])
    return board.HostError(
        code="probe",
        message=f"The host could not be read: {said}.",
        hint=next((hint for sign, hint in _PROBE_HINTS if sign in said), _PYTHON_HINT),
    )


def _directory(context: Context) -> board.HostError | None:
    refusal = missing_directory(context)
    if refusal is None:
        return None
    return board.HostError(code="directory", message=refusal.message, hint=refusal.hint)


def _rootless(state: Mapping[str, Any]) -> board.HostError | None:
    root = state["root"]
    problems = {
        "file": ("is a file", "Move it away, or set calm.root to another folder."),
        "unwritable": ("cannot be written to", "Give this user the right to write there, or set calm.root."),
        "leads_out": ("holds a link that leads out of it", "Replace the link by a real folder."),
    }
    if root["status"] not in problems:
        return None
    what, hint = problems[root["status"]]
    return board.HostError(code="root", message=f"The folder {root['path']} {what}.", hint=hint)
