"""The rules about LM Studio, its models and the processes that the settings name. Pure."""

from __future__ import annotations

import ntpath
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Sequence

from calm.heal import leak
from calm.heal.view import Rule, Suspect, View, held, megabytes
from calm.health.model import Instance, LoadedModel, Snapshot, Watched

MIB = 2**20


def keeper(instances: Sequence[Instance]) -> Instance:
    """The one that stays: it serves the API, else ``http-server.json`` names it, else it is the oldest."""
    return min(
        instances,
        key=lambda each: (not each.serves_api, not each.named, each.created_at, each.root_pid),
    )


def duplicated(snapshot: Snapshot, view: View) -> Iterator[Suspect]:  # noqa: ARG001
    """More than one instance. Eight helpers of one Electron application are one instance."""
    instances = snapshot.lmstudio.instances
    if len(instances) < 2:
        return
    kept = keeper(instances)
    for extra in instances:
        if extra is not kept:
            yield Suspect(
                target=_target(extra),
                action="end",
                since=extra.created_at,
                says=f"a second LM Studio runs beside {kept.root_pid}, which {_why_kept(kept)}",
                evidence=_shown(extra) | {"kept": kept.root_pid},
            )


def runaway(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """Much CPU while nobody is served. Busy is not sick, and unknown is not idle."""
    healing = view.settings.healing
    limit = healing.rules.lmstudio_runaway.cpu_percent or healing.cpu_percent
    for each in snapshot.lmstudio.instances:
        idle = each.busy is False and not _young(each, snapshot, view)
        if idle and each.cpu_percent is not None and each.cpu_percent >= limit:
            yield Suspect(
                target=_target(each),
                action="restart",
                says=f"LM Studio uses {each.cpu_percent:.0f} % of a core and serves nobody",
                evidence=_shown(each) | {"limit_percent": limit},
            )


def memory(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """Much memory beside the loaded models. Told, never acted on: only a leak is an illness."""
    healing = view.settings.healing
    limit = (healing.rules.lmstudio_memory.memory_mb or healing.memory_mb) * MIB
    models = _models_bytes(snapshot)
    for each in snapshot.lmstudio.instances:
        size = held(each)
        if size is None or models is None or size - models < limit:
            continue
        yield Suspect(
            target=_target(each),
            only_report=True,
            says=f"LM Studio holds {megabytes(size - models)} MB beside its loaded models",
            evidence=_shown(each) | {"models_bytes": models, "limit_bytes": int(limit)},
        )


def leaking(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """A steady rise of USS + swap while the set of models stays the same."""
    rule = view.settings.healing.rules.lmstudio_leaking
    for each in snapshot.lmstudio.instances:
        found = leak.find(
            _points(each, view, since=view.now - rule.window),
            least_seconds=0.9 * rule.window,
            least_per_hour=rule.mb_per_hour * MIB,
        )
        if found is not None:
            yield Suspect(
                target=_target(each),
                action=None if each.busy else "restart",
                since=snapshot.taken_at - found.seconds,
                says=f"LM Studio's memory grows by {megabytes(found.bytes_per_hour)} MB an hour"
                f" (± {megabytes(found.margin_per_hour)}), its models unchanged",
                evidence=_shown(each)
                | {
                    "bytes_per_hour": round(found.bytes_per_hour),
                    "margin_per_hour": round(found.margin_per_hour),
                    "seconds": round(found.seconds),
                    "points": found.points,
                },
            )


def api_down(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """The process lives and its server, which should start with it, does not answer."""
    api, instances = snapshot.lmstudio.api, snapshot.lmstudio.instances
    if not instances or api.reachable is not False or not view.settings.lmstudio.server.autostart:
        return
    main = keeper(instances)
    if not _young(main, snapshot, view):
        yield Suspect(
            target=_target(main),
            action="start-server",
            says=f"LM Studio runs, and its server on port {api.port} does not answer: {api.error}",
            evidence=_shown(main) | {"port": api.port, "error": api.error},
        )


def model_idle(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """A model that has outstayed its time to live, and the rule's own."""
    least = view.settings.healing.rules.model_idle.idle
    for model in snapshot.lmstudio.api.models_loaded or ():
        allowed = max(least, model.ttl_seconds or 0)
        if not _anyone_busy(snapshot) and model.idle_seconds is not None and model.idle_seconds > allowed:
            yield Suspect(
                target=f"model:{model.id}",
                action="unload",
                since=snapshot.taken_at - model.idle_seconds,
                says=f"{model.id} has been loaded and unused for {model.idle_seconds / 60:.0f} min",
                evidence={"size_bytes": model.size_bytes, "idle_seconds": round(model.idle_seconds)},
            )


def model_duplicated(snapshot: Snapshot, view: View) -> Iterator[Suspect]:  # noqa: ARG001
    """One model loaded twice (``model`` and ``model:2``): all but the first can go when idle."""
    by_key: dict[str, list[LoadedModel]] = defaultdict(list)
    for model in snapshot.lmstudio.api.models_loaded or ():
        by_key[model.key].append(model)
    for key, models in by_key.items():
        first, *extras = sorted(models, key=lambda model: (model.id != key, len(model.id), model.id))
        for extra in extras:
            yield Suspect(
                target=f"model:{extra.id}",
                action=None if _anyone_busy(snapshot) else "unload",
                says=f"{key} is loaded twice, as {first.id} and as {extra.id}",
                evidence={"kept": first.id, "size_bytes": extra.size_bytes},
            )


def watched(snapshot: Snapshot, view: View) -> Iterator[Suspect]:
    """A named process over the thresholds. It is ended by its full path alone, and only when told to."""
    healing = view.settings.healing
    for process in snapshot.watched or ():
        setting = next((each for each in healing.watched if _named(process, each.name)), None)
        trouble = _over(process, healing.cpu_percent, healing.memory_mb)
        if setting is None or setting.do == "off" or trouble is None:
            continue
        may = setting.do == "act" and same_path(process.executable, setting.path)
        known = f" ({process.known_as})" if process.known_as else ""
        yield Suspect(
            target=f"process:{process.name}",
            action="end-process" if may else None,
            only_report=not may,
            says=f"{process.name}{known} {trouble}",
            evidence={
                "pid": process.pid,
                "created_at": process.created_at,
                "executable": process.executable,
                "known_as": process.known_as,
                "cpu_percent": process.cpu_percent,
                "uss_bytes": process.uss_bytes,
            },
        )


def same_path(one: str | None, other: str | None) -> bool:
    """Whether two full paths are the same on the system that they are of."""
    if one is None or other is None:
        return False
    flavour = ntpath if "\\" in one or one[1:2] == ":" else posixpath
    return bool(flavour.normcase(flavour.normpath(one)) == flavour.normcase(flavour.normpath(other)))


RULES = (
    Rule(name="lmstudio-duplicated", scope="lmstudio", look=duplicated),
    Rule(name="lmstudio-runaway", scope="lmstudio", look=runaway),
    Rule(name="lmstudio-memory", scope="lmstudio", look=memory),
    Rule(name="lmstudio-leaking", scope="lmstudio", look=leaking, sampled=False),
    Rule(name="lmstudio-api-down", scope="lmstudio", look=api_down),
    Rule(name="model-idle", scope="lmstudio", look=model_idle, sampled=False),
    Rule(name="model-duplicated", scope="lmstudio", look=model_duplicated),
    Rule(name="watched-process", scope="lmstudio", look=watched),
)


def _target(instance: Instance) -> str:
    return f"lmstudio:{instance.root_pid}"


def _shown(instance: Instance) -> dict[str, object]:
    return {
        "root_pid": instance.root_pid,
        "created_at": instance.created_at,
        "executable": instance.executable,
        "processes": instance.processes,
        "cpu_percent": instance.cpu_percent,
        "memory_bytes": held(instance),
        "busy": instance.busy,
    }


def _why_kept(kept: Instance) -> str:
    if kept.serves_api:
        return "holds the API's port"
    return "LM Studio's own file names" if kept.named else "is the older one"


def _young(instance: Instance, snapshot: Snapshot, view: View) -> bool:
    return snapshot.taken_at - instance.created_at < view.young


def _anyone_busy(snapshot: Snapshot) -> bool:
    """Unknown counts as busy: a model is not taken from under a request."""
    return any(each.busy is not False for each in snapshot.lmstudio.instances)


def _models_bytes(snapshot: Snapshot) -> int | None:
    """What the loaded models hold; ``None`` where that is not known, and then nothing can be said."""
    models = snapshot.lmstudio.api.models_loaded
    if models is None or any(model.size_bytes is None for model in models):
        return None
    return sum(model.size_bytes or 0 for model in models)


def _points(instance: Instance, view: View, *, since: float) -> list[leak.Point]:
    key = (instance.root_pid, instance.created_at)
    return [
        leak.Point(at=trace.at, bytes=trace.memory[key], models=trace.models)
        for trace in view.trail
        if trace.at >= since and key in trace.memory
    ]


def _named(process: Watched, name: str) -> bool:
    return process.name.lower().removesuffix(".exe") == name.lower().removesuffix(".exe")


def _over(process: Watched, cpu_percent: float, memory_mb: float) -> str | None:
    if process.cpu_percent is not None and process.cpu_percent >= cpu_percent:
        return f"uses {process.cpu_percent:.0f} % of a core"
    size = None if process.uss_bytes is None else process.uss_bytes + (process.swap_bytes or 0)
    return None if size is None or size < memory_mb * MIB else f"holds {megabytes(size)} MB"
