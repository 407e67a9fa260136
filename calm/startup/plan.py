"""What ``calm up`` and ``calm down`` do, as steps made from the settings and the Compose file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calm.health import endpoints, home
from calm.health.project import compose_project
from calm.startup import engines, graph
from calm.startup.gates import WELL, Look, passed
from calm.startup.graph import Report
from calm.startup.model import Deadline, Outcome, Status, Step, StepError
from calm.startup.stack import Service, Stack

if TYPE_CHECKING:
    from calm.health.model import Endpoint
    from calm.settings import Settings

ENGINE, CONTAINERS, LMSTUDIO = "engine", "containers", "lmstudio"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the caller wants of a start."""

    docker: bool = True
    lmstudio: bool = True
    wait_lmstudio: bool = False
    seconds: float = 120


@dataclass(frozen=True, kw_only=True)
class LMStudio:
    """How LM Studio is started and stopped: each says what came of it, and raises :class:`StepError`."""

    start: Callable[[], Status]
    stop: Callable[[], Status]


def up(settings: Settings, root: Path, wish: Wish, lmstudio: LMStudio, report: Report) -> tuple[Outcome, ...]:
    """Starts everything that is wanted, in the order that its parts need, and waits until it works."""
    deadline = Deadline.after(wish.seconds)
    first: tuple[Outcome, ...] = ()
    steps: list[Step] = []
    if wish.docker and _has_docker(settings):
        # These come before the plan of the rest: without them it is not known what there is to start.
        stack = _stack(settings, root)
        services: dict[str, Service] = {}
        first = graph.run(_first_steps(stack, services), deadline, report)
        steps = [_start_step(stack, service, services) for service in services.values()]
    if wish.lmstudio and _has_lmstudio(settings) and all(outcome.good for outcome in first):
        steps.append(_lmstudio_step(settings, wish, lmstudio, tuple(step.name for step in steps)))
    return (*first, *graph.run(steps, deadline, report))


def down(
    settings: Settings, root: Path, wish: Wish, lmstudio: LMStudio, report: Report
) -> tuple[Outcome, ...]:
    """Stops LM Studio and the services, what needs others before them; the engine stays."""
    steps = []
    if wish.lmstudio and _has_lmstudio(settings):
        steps.append(Step(name=LMSTUDIO, act=lambda _: lmstudio.stop()))
    first = tuple(step.name for step in steps)
    if wish.docker and _has_docker(settings) and engines.answers() is None:
        stack = _stack(settings, root)
        services = _services(stack)
        for service in services.values():
            above = tuple(other.name for other in services.values() if service.name in other.needs)
            steps.append(_stop_step(stack, service, (*first, *above)))
    return graph.run(steps, Deadline.after(wish.seconds), report)


def compose_file(settings: Settings, root: Path) -> Path:
    """The Compose file of the stack on this host."""
    folder = settings.docker.directory
    return (Path(folder).expanduser() if folder else root / "docker") / "docker-compose.yml"


def end_points(settings: Settings, wish: Wish) -> tuple[Endpoint, ...]:
    """What a user can connect to now, each really asked."""
    docker, found = settings.docker, []
    host = _address(settings)
    if wish.docker and _has_docker(settings):
        found.append(endpoints.postgres("postgres", host, docker.postgres.port))
        found.append(endpoints.redis("redis", host, docker.redis.port))
        if docker.agent_api.enabled:
            found.append(_agent_api(settings))
    if wish.lmstudio and _has_lmstudio(settings) and (base := _lmstudio_url(settings)):
        found.append(endpoints.lmstudio(base)[0])
    return tuple(found)


def summary(outcomes: Sequence[Outcome], points: Sequence[Endpoint]) -> Mapping[str, Any]:
    """What ``--json`` prints."""
    return {
        "schema": 1,
        "ok": all(outcome.good for outcome in outcomes),
        "steps": [outcome.to_json() for outcome in outcomes],
        "endpoints": [asdict(point) for point in points],
    }


def _first_steps(stack: Stack, services: dict[str, Service]) -> list[Step]:
    """The engine, and the containers; making them fills in ``services``."""

    def make(deadline: Deadline) -> Status:
        status, found = stack.made(deadline)
        services.update(found)
        return status

    return [Step(name=ENGINE, act=engines.start), Step(name=CONTAINERS, act=make, needs=(ENGINE,))]


def _start_step(stack: Stack, service: Service, services: Mapping[str, Service]) -> Step:
    below = [services[name] for name in service.needs]
    return Step(
        name=service.name,
        needs=service.needs,
        act=lambda deadline: stack.start(service, deadline, below),
        holds=lambda: stack.holds(service),
        undo=lambda: _quietly(lambda: stack.stop(service.name)),
    )


def _stop_step(stack: Stack, service: Service, after: tuple[str, ...]) -> Step:
    return Step(name=service.name, needs=after, act=lambda _: stack.stop(service.name))


def _lmstudio_step(settings: Settings, wish: Wish, lmstudio: LMStudio, after: tuple[str, ...]) -> Step:
    def act(deadline: Deadline) -> Status:
        status = lmstudio.start()
        if not wish.wait_lmstudio:
            return Status.RUNNING if status is Status.RUNNING else Status.BEGUN
        passed(lambda: _lmstudio_look(settings), deadline)
        return status

    return Step(name=LMSTUDIO, needs=after, act=act)


def _lmstudio_look(settings: Settings) -> Look:
    """Its server answers; and where it loads a model by itself, one is loaded."""
    base = _lmstudio_url(settings)
    if base is None:
        return Look(state="failed", why="the port of its server is not known")
    point, api = endpoints.lmstudio(base)
    if not point.ok:
        return Look(state="waiting", why=f"{point.url}: {point.error}")
    if settings.lmstudio.autoload and not api.models_loaded:
        return Look(state="waiting", why="no model is loaded yet")
    return WELL


def _lmstudio_url(settings: Settings) -> str | None:
    where = home.find(settings.lmstudio.home)
    return home.read(where, default_port=settings.lmstudio.server.port).url


def _has_docker(settings: Settings) -> bool:
    return settings.docker.enabled is True or (settings.docker.enabled == "auto" and not engines.absent())


def _has_lmstudio(settings: Settings) -> bool:
    wanted = settings.lmstudio.enabled
    return wanted is True or (wanted == "auto" and home.read(home.find(settings.lmstudio.home)).exists)


def _stack(settings: Settings, root: Path) -> Stack:
    answers = (
        {"agent-api": lambda: bool(_agent_api(settings).ok)} if settings.docker.agent_api.enabled else {}
    )
    return Stack(project=compose_project(settings, root), file=compose_file(settings, root), answers=answers)


def _agent_api(settings: Settings) -> Endpoint:
    host = _address(settings)
    named = f"[{host}]" if ":" in host else host
    return endpoints.http("agent-api", f"http://{named}:{settings.docker.agent_api.port}/api/health")


def _address(settings: Settings) -> str:
    """Where this host reaches what it publishes."""
    bind = settings.docker.bind
    return home.ANY_ADDRESS.get(bind, bind)


def _services(stack: Stack) -> dict[str, Service]:
    try:
        return stack.services()
    except StepError:
        return {}  # without a file that Compose can read there is nothing of ours to stop


def _quietly(act: Callable[[], object]) -> None:
    try:
        act()
    except StepError:
        return  # the failure below it is told already
