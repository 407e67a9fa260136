"""Healing after converge: the agent looks at its host once, and mends what its rules and budget let it."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import operation
from pyinfra.api.command import QuoteString, StringCommand

from calm.fleet import board
from calm.fleet.patience import HEAL_SECONDS
from operations._resource import Commands, remember

NAME = "remedies"


def heal() -> None:
    """Let the agent heal, if anything was changed or it had found something; it takes ten seconds.

    `calm apply` comes here only where something differs; `calm heal` on the host heals without that.
    """
    run = board.current().host(host.name)
    if run.drift is None or run.error is not None or board.current().desired == "absent":
        return
    if any(resource.id == "agent" for resource in run.drift.resources):
        remember(run, NAME, remedies(name=NAME, _ignore_errors=True))


@operation()
def remedies() -> Commands:
    """Run `calm heal` on the host. On a host that has no agent yet, a plan says no more than that it will."""
    run = board.current().host(host.name)
    assert run.drift is not None
    assert run.state is not None
    findings = (run.state.get("healing") or {}).get("findings")
    if not run.drift.pending and not findings:
        host.noop("nothing was changed and nothing is open")
        return
    if "agent" in run.failed():
        host.noop("there is no agent to heal with")
        return
    root = run.state["root"]["path"]
    yield StringCommand(
        QuoteString(f"{root}/agent/venv/bin/calm"),
        "heal --json --settings",
        QuoteString(f"{root}/settings.json"),
        _env={"CALM_RUN": board.current().run_id, "CALM_ROOT": root},
        _success_exit_codes=[0, 2, 7],
        _timeout=HEAL_SECONDS,
    )
