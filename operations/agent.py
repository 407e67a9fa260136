"""The agent on the host: its virtual environment, its wheel, and what it depends on."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import operation
from pyinfra.api.command import StringCommand

from calm import release
from calm.drift.model import Effect
from calm.fleet import board
from operations._resource import Commands, effects, failing, remember, why_not_or

CHECKOUT = Path(__file__).resolve().parent.parent


def installed() -> None:
    """Install the agent, bring it to this checkout's release, or repair a broken one."""
    run = board.current().host(host.name)
    if run.drift is None or run.error is not None:
        return
    for resource in run.drift.resources:
        if resource.kind == "agent" and resource.pending:
            remember(run, resource.id, agent(resource_id=resource.id, name=resource.id, _ignore_errors=True))


@operation()
def agent(resource_id: str) -> Commands:
    """Install, upgrade or remove the agent of this host, if it differs."""
    run = board.current().host(host.name)
    yield from why_not_or(run.resource(resource_id), run, lambda wanted: _carried_out(wanted, run))


def _carried_out(wanted: tuple[Effect, ...], run: board.HostRun) -> StringCommand:
    assert run.settings is not None
    try:
        return effects(tuple(_packed(effect, run.settings.agent.wheelhouse) for effect in wanted))
    except release.ReleaseError as error:
        return failing(str(error))


def _packed(effect: Effect, wheelhouse: str) -> dict[str, Any]:
    """``effect`` with the wheels in it. A plan never comes here, so that it builds none."""
    if effect["do"] != "agent":
        return dict(effect)
    offline = [] if wheelhouse == "auto" else release.wheels(Path(wheelhouse).expanduser())
    return {
        **effect,
        "wheel": _parcel(*release.wheel(CHECKOUT)),
        "requirements": release.requirements(CHECKOUT),
        "wheelhouse": [_parcel(name, content) for name, content in offline],
    }


def _parcel(name: str, content: bytes) -> dict[str, str]:
    return {"name": name, "content": base64.b64encode(content).decode()}
