"""Containers, volumes and networks, over the engine's socket. Nothing here removes a volume."""

from __future__ import annotations

import calendar
import time
from typing import Any

from calm.onhost.docker_api import quoted
from calm.onhost.dockerstate import learn_secrets, on_network
from calm.onhost.errors import EngineRefusalError, RefusedError
from calm.onhost.run import Outcome, Run

STOP_SECONDS = 30
DEADLINE_SECONDS = 120.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
LOOP_RESTARTS, LOOP_SECONDS = 5, 20
"""A container that ends this often in this time will not get healthy; Docker's pauses double each time."""
MORE_CHECKS = 3
"""Failed checks after which nobody waits any longer for one that was unhealthy before."""
STEADY_SECONDS = 3
"""How long one without a health check has to have run: one that ends at once runs for a moment, too."""
GONE, UNCHANGED = 404, 304


def volume(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{name, labels}``: makes a volume unless it is there; one that is there stays as it is."""
    name = effect["name"]
    if any(one["Name"] == name for one in run.engine.get("/volumes")["Volumes"] or ()):
        return Outcome("unchanged")
    run.engine.call("POST", "/volumes/create", body={"Name": name, "Labels": effect.get("labels") or {}})
    return Outcome("done")


def network_remove(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{name, expect_id}``: takes a network away, unless a container, running or not, is on it."""
    name = effect["name"]
    found = [one for one in run.engine.get("/networks") if one["Name"] == name]
    if not found:
        return Outcome("unchanged")
    if found[0]["Id"] != effect["expect_id"]:
        raise RefusedError(f"the network {name} was made anew since the plan: look at a new plan")
    users = on_network(name, run.engine.get("/containers/json", all=1))
    if users:
        raise RefusedError(
            f"{', '.join(users)} came to the network {name} since the plan: look at a new plan"
        )
    run.engine.call("DELETE", f"/networks/{found[0]['Id']}", timeout=30)
    return Outcome("done")


def container(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{name, action, expect_id}``: start, stop, restart, unpause, remove or update a container.

    ``expect_id`` is the container that the plan saw: another one of that name is left alone. ``stop`` and
    ``restart`` take ``timeout_s``, ``remove`` takes ``force``; ``update`` takes the keys of `_limits`.
    """
    if effect.get("v") or effect.get("volumes"):
        raise RefusedError("calm never removes a volume, so no container is removed with its volumes")
    actions = {"start": _start, "stop": _stop, "restart": _restart, "unpause": _unpause, "remove": _remove}
    action = {**actions, "update": _update}.get(effect["action"])
    if action is None:
        raise RefusedError(f"calm does not know how to {effect['action']} a container")
    found = find(run, effect["name"])
    if found is None and effect["action"] in ("remove", "stop"):
        return Outcome("unchanged")
    if found is None:
        raise RefusedError(f"the container {effect['name']} does not exist any more: look at a new plan")
    if effect.get("expect_id") and found["Id"] != effect["expect_id"]:
        raise RefusedError(f"the container {effect['name']} was made anew since the plan: look at a new plan")
    return action(run, found, effect)


def find(run: Run, name: str) -> dict[str, Any] | None:
    """A container by its name, inspected; its secrets will not show in messages."""
    try:
        found: dict[str, Any] = run.engine.get(f"/containers/{quoted(name)}/json")
    except EngineRefusalError as refusal:
        if refusal.code == GONE:
            return None
        raise
    learn_secrets(found, run.masker)
    return found


def existing(run: Run, name: str) -> dict[str, Any]:
    """As `find`, but raises `RefusedError` if it is not there."""
    found = find(run, name)
    if found is None:
        raise RefusedError(f"the container {name} does not exist")
    return found


def _post(run: Run, found: dict[str, Any], what: str, **query: Any) -> None:
    path, wait = f"/containers/{found['Id']}/{what}", float(query.get("t") or 0) + 30
    run.engine.call("POST", path, query=query, timeout=wait)


def _start(run: Run, found: dict[str, Any], effect: dict[str, Any]) -> Outcome:  # noqa: ARG001
    if found["State"]["Paused"]:
        _post(run, found, "unpause")
        return Outcome("done")
    if found["State"]["Running"]:
        return Outcome("unchanged")
    _post(run, found, "start")
    return Outcome("done")


def _stop(run: Run, found: dict[str, Any], effect: dict[str, Any]) -> Outcome:
    if not found["State"]["Running"]:
        return Outcome("unchanged")
    if found["State"]["Paused"]:
        _post(run, found, "unpause")
    _post(run, found, "stop", t=int(effect.get("timeout_s") or STOP_SECONDS))
    return Outcome("done")


def _restart(run: Run, found: dict[str, Any], effect: dict[str, Any]) -> Outcome:
    if found["State"]["Paused"]:
        _post(run, found, "unpause")
    _post(run, found, "restart", t=int(effect.get("timeout_s") or STOP_SECONDS))
    return Outcome("done")


def _unpause(run: Run, found: dict[str, Any], effect: dict[str, Any]) -> Outcome:  # noqa: ARG001
    if not found["State"]["Paused"]:
        return Outcome("unchanged")
    _post(run, found, "unpause")
    return Outcome("done")


def _remove(run: Run, found: dict[str, Any], effect: dict[str, Any]) -> Outcome:
    """A running one is stopped properly first, so that a database can close its files."""
    if found["State"]["Running"]:
        _stop(run, found, effect)
    query = {"force": "true"} if effect.get("force") else {}
    run.engine.call("DELETE", f"/containers/{found['Id']}", query=query, timeout=60)
    return Outcome("done")


def _update(run: Run, found: dict[str, Any], effect: dict[str, Any]) -> Outcome:
    limits = _limits(effect)
    if not limits:
        raise RefusedError(f"nothing to update in {effect['name']}")
    answer = run.engine.call("POST", f"/containers/{found['Id']}/update", body=limits, timeout=30)
    warnings = (answer or {}).get("Warnings") or []
    return Outcome("done", run.masker.hide("; ".join(warnings)) or None)


def _limits(effect: dict[str, Any]) -> dict[str, Any]:
    """``memory``, ``memory_swap``, ``memory_reservation``, ``nano_cpus``, ``pids_limit``, ``restart`` (name),
    ``restart_max``, in the units of ``docker inspect``. What is absent or 0 stays as it is.

    Memory and swap go together, else the engine refuses a limit above the old swap limit; without a value
    for swap there is none.
    """
    memory = effect.get("memory")
    swap = effect.get("memory_swap") or memory
    named = {
        "Memory": memory,
        "MemorySwap": swap,
        "MemoryReservation": effect.get("memory_reservation"),
        "NanoCpus": effect.get("nano_cpus"),
        "PidsLimit": effect.get("pids_limit"),
    }
    limits: dict[str, Any] = {name: value for name, value in named.items() if value}
    if effect.get("restart"):
        most = int(effect.get("restart_max") or 0)
        limits["RestartPolicy"] = {"Name": effect["restart"], "MaximumRetryCount": most}
    return limits


def wait_healthy(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{container, deadline_s, start}``: waits until a container is healthy, or runs on if it has no check.

    Raises `RefusedError` with its state and its last log lines if it is not in time, or ended for good. One
    that Docker starts over and over is not waited for until the end, nor is one that was sick before: it has
    had its time, and gets three more checks to show that what was changed has helped.
    """
    deadline_s = float(effect.get("deadline_s") or DEADLINE_SECONDS)
    began, pause = time.monotonic(), FIRST_PAUSE
    if effect.get("start"):
        _start(run, existing(run, effect["container"]), effect)
    first = existing(run, effect["container"])
    restarts = first["RestartCount"]
    while True:
        found = existing(run, effect["container"])
        waited_s = time.monotonic() - began
        if _well(found):
            return Outcome("done", waited_s=round(waited_s, 2))
        left = deadline_s - waited_s
        hopeless = _ended(found) or _stays_sick(first, found)
        if hopeless or left <= 0 or _loops(found["RestartCount"] - restarts, waited_s):
            raise RefusedError(_why(run, found, effect["container"], round(waited_s)))
        time.sleep(min(pause, max(left, 0.01)))
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _well(found: dict[str, Any]) -> bool:
    state = found["State"]
    health = (state.get("Health") or {}).get("Status")
    if state["Status"] != "running":
        return False
    return bool(health == "healthy" or (health in (None, "none") and _age(state) >= STEADY_SECONDS))


def _age(state: dict[str, Any]) -> float:
    """Seconds since a container was started; many for a time that cannot be read."""
    try:
        return time.time() - calendar.timegm(time.strptime(state["StartedAt"][:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return STEADY_SECONDS


def _ended(found: dict[str, Any]) -> bool:
    """Whether nobody will start it again."""
    policy = (found["HostConfig"].get("RestartPolicy") or {}).get("Name") or "no"
    return found["State"]["Status"] in ("exited", "dead") and policy in ("no", "")


def _stays_sick(first: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a container that was unhealthy at the first look has failed further checks since."""
    before, health = first["State"].get("Health") or {}, now["State"].get("Health") or {}
    if {before.get("Status"), health.get("Status")} != {"unhealthy"}:
        return False
    same = now["State"]["StartedAt"] == first["State"]["StartedAt"]
    return same and int(health["FailingStreak"]) - int(before["FailingStreak"]) >= MORE_CHECKS


def _loops(restarts: int, waited_s: float) -> bool:
    return bool(restarts >= LOOP_RESTARTS and waited_s >= LOOP_SECONDS)


def _why(run: Run, found: dict[str, Any], name: str, waited_s: float) -> str:
    state = found["State"]
    health = (state.get("Health") or {}).get("Status")
    seen = state["Status"] + (f", {health}" if health else "")
    if state["Status"] != "running" or found["RestartCount"]:
        seen += f", exit code {state['ExitCode']}, {found['RestartCount']} restarts"
    if state["OOMKilled"]:
        seen += ", killed for want of memory: its memory limit is too low"
    text = f"{name} is not healthy after {waited_s:g} s ({seen}){_check(run, state)}"
    return run.masker.hide(f"{text}; its last lines: {_logs(run, found) or 'none'}")


def _check(run: Run, state: dict[str, Any]) -> str:
    """What the health check said last."""
    log = (state.get("Health") or {}).get("Log") or ()
    said = run.masker.hide_output(log[-1]["Output"].strip()) if log and log[-1]["ExitCode"] != 0 else ""
    return f"; its health check says: {said[:200]}" if said else ""


def _logs(run: Run, found: dict[str, Any]) -> str:
    try:
        return " | ".join(map(run.masker.hide_output, run.engine.logs(found["Id"]).splitlines()))
    except RefusedError:
        return ""
