"""How every operation of calm works: look up the resource's drift, send its effects, let it fail alone."""

from __future__ import annotations

from collections.abc import Callable, Generator

from pyinfra import context, host
from pyinfra.api import operation
from pyinfra.api.command import PyinfraCommand, QuoteString, StringCommand
from pyinfra.api.operation import OperationMeta

from calm.drift.model import Effect, Resource
from calm.fleet import board, patience, pushed

Commands = Generator[PyinfraCommand, None, None]


@operation()
def converge(resource_id: str) -> Commands:
    """Bring one resource of this host to what the settings say, if it differs.

    The decision was made from the probe's state, so that a plan and the apply that follows it agree; each
    effect names the content that plan saw and refuses if it has changed since.
    """
    run = board.current().host(host.name)
    yield from why_not_or(run.resource(resource_id), run, effects)


def why_not_or(
    resource: Resource, run: board.HostRun, carry_out: Callable[[tuple[Effect, ...]], StringCommand]
) -> Commands:
    """Nothing if ``resource`` is as it should be; a failure if it cannot be; else what mends it.

    In a plan nothing is carried out: that something would be is all that pyinfra asks for.
    """
    if not resource.pending:
        host.noop(f"{resource.id} is as it should be")
        return
    reason = _why_not(resource, run)
    if reason is not None:
        yield failing(reason)
        return
    if not context.state.is_executing:
        yield StringCommand("true")
        return
    yield carry_out(resource.effects)


def converge_all(kinds: tuple[str, ...]) -> None:
    """Converge the pending resources of these kinds on this host, in the order of the plan.

    What is as it should be gets no operation: pyinfra's own work for one takes longer than comparing it did.
    Errors are held back until :func:`operations.host.finish`, which fails the host: one resource that
    fails must not stop those that do not need it.
    """
    run = board.current().host(host.name)
    if run.drift is None or run.error is not None:
        return
    for resource in run.drift.resources:
        if resource.kind in kinds and resource.pending:
            remember(
                run, resource.id, converge(resource_id=resource.id, name=resource.id, _ignore_errors=True)
            )


def remember(run: board.HostRun, identity: str, meta: OperationMeta) -> None:
    """Keep the result of an operation where the runner looks for it."""
    run.metas[identity] = meta


def effects(wanted: tuple[Effect, ...]) -> StringCommand:
    """The one command that carries out ``wanted`` on this host. Nothing of it shows in argv or in logs."""
    run, now = board.current().host(host.name), board.current()
    assert run.state is not None
    request = {
        "schema": 1,
        "root": run.state["root"]["path"],
        "digest_key": run.digest_key,
        "run": {"id": now.run_id, "who": now.who},
        "effects": [dict(effect) for effect in wanted],
    }
    return StringCommand(
        f"{pushed.python(host)} -I -",
        _stdin=pushed.payload(host, "effect", request),
        _timeout=patience.seconds(wanted),
    )


def failing(reason: str) -> StringCommand:
    """A command that says why and fails, on this host alone; plain pyinfra shows no traceback for it."""
    return StringCommand("printf '%s\\n'", QuoteString(reason), ">&2; exit 1")


def _why_not(resource: Resource, run: board.HostRun) -> str | None:
    if resource.refused is not None:
        return f"{resource.refused.message} {resource.refused.hint}"
    broken = [need for need in resource.needs if need in run.failed()]
    if broken:
        reason = f"skipped, since {broken[0]} failed"
        run.skipped[resource.id] = reason
        return reason
    return None
