"""The agent API before and after: ``python -m bench.tuned [--write]``.

Before: the report's stack as it was written by hand (no limits, LOG_LEVEL DEBUG, a pool of 20, an append-only
redis) with nginx, prometheus and grafana running beside it; the agent API waits for the health of its stores,
which is looked at every 10 s. The report does not say whether it did before, so a start that waits for nobody
is measured, too. After: the stack that calm makes. Both have the same images and the same sessions in redis.

Start-up is the time from the command until the API's health, which really asks both stores, is good; volumes
are there already, containers are not, and the other stack is down. Requests are measured in short blocks in
turn, while the other stack is paused: so what else the machine does falls on both.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import yaml

from bench import lab, results
from bench.report_case import hand_written
from tests.integration.stack import CALM, Stack
from tests.lab.lmstudio import wait_until

ROUNDS = 5
BLOCKS = 30
REQUESTS = 40
WARM_UP = 5
SETTLED_S = 5.0
DEADLINE_S = 120.0
_KEYS, _VALUE = 100_000, "x" * 1000
_FRIENDS = ("nginx", "prometheus", "grafana")
_EVERY_10_S = {"interval": "10s", "timeout": "5s", "retries": 5}
_HEALTH = {
    "postgres": ["CMD-SHELL", "pg_isready -U agent_user -d agent_system"],
    "redis": ["CMD", "redis-cli", "-a", "report", "ping"],
}
"""The report's health checks; the agent API waits for both."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One of the stacks: its Compose file, and which of its services nobody has to wait for at the end."""

    stack: Stack
    file: Path
    friends: tuple[str, ...] = ()

    @property
    def compose(self) -> list[str]:
        """The command with its project and file."""
        return ["compose", "-p", self.stack.project, "-f", str(self.file)]

    def client(self) -> httpx.Client:
        """A client of its API with a connection that stays."""
        url = f"http://127.0.0.1:{self.stack.ports['agent-api']}"
        return httpx.Client(base_url=url, timeout=10, trust_env=False)

    def up(self) -> list[str]:
        """What starts it."""
        return ["docker", *self.compose, "up", "-d"]

    def down(self) -> None:
        """Take its containers away; a program that hears no signal would cost ten seconds."""
        if self.friends:
            self.stack.docker(*self.compose, "kill", *self.friends, check=False)
        self.stack.docker(*self.compose, "down")

    @contextmanager
    def alone(self, other: Kind) -> Iterator[None]:
        """While the other one is paused."""
        self.stack.docker(*other.compose, "pause")
        try:
            yield
        finally:
            self.stack.docker(*other.compose, "unpause")


Sides = tuple[list[float], list[float]]
"""Figures of before and after, pair by pair."""


def measure() -> str:
    """All rounds and blocks, as a table."""
    with ExitStack() as held:
        engine = held.enter_context(lab.lab_engine())
        before = _untuned(held.enter_context(lab.stack(engine, "untuned")))
        after = _tuned(held.enter_context(lab.stack(engine, "tuned", lmstudio={"enabled": False})))
        starts = _starts(before, after)
        return _shown(starts, _latencies(before, after))


def _starts(before: Kind, after: Kind) -> dict[str, list[float]]:
    """Seconds of each kind of start, in turn; the order is turned round each time."""
    plain = replace(before, file=before.file.with_name("plain.yml"))
    settings = str(after.stack.root / "settings.json")
    ways = {
        "before": (before, before.up()),
        "nobody waits": (plain, plain.up()),
        "after": (after, after.up()),
        "calm up": (after, [*CALM, "up", "--skip-lmstudio", "--settings", settings]),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            took[name].append(_start(*ways[name]))
    return took


def _latencies(before: Kind, after: Kind) -> dict[str, Sides]:
    """Milliseconds by figure: of each block its p50 and p95."""
    found: dict[str, Sides] = {}
    for kind in (before, after):
        _started(kind, kind.up())
    time.sleep(SETTLED_S)
    for number in range(BLOCKS):
        turn = [(0, before, after), (1, after, before)]
        for side, kind, other in turn if number % 2 else reversed(turn):
            with kind.alone(other):
                figures = _block(kind)
            for name, value in figures.items():
                found.setdefault(name, ([], []))[side].append(value)
    return found


def _block(kind: Kind) -> dict[str, float]:
    with kind.client() as client:
        health, session = _timed(lambda: client.get("/api/health")), _timed(_session(client))
    figures: dict[str, float] = {}
    for name, part in (("health", health), ("a session, three requests", session)):
        at = quantiles(part, n=20)
        figures |= {f"{name}, p50": at[9], f"{name}, p95": at[18]}
    return figures


def _untuned(stack: Stack) -> Kind:
    kind = Kind(stack=stack, file=stack.folder / "docker-compose.yml", friends=_FRIENDS)
    whole = hand_written(stack)
    kind.file.with_name("plain.yml").write_text(yaml.safe_dump(whole))
    services: Any = whole["services"]
    for name, test in _HEALTH.items():
        services[name]["healthcheck"] = {"test": test, **_EVERY_10_S}
    services["agent-api"]["depends_on"] = {name: {"condition": "service_healthy"} for name in _HEALTH}
    kind.file.write_text(yaml.safe_dump(whole))
    stack.docker(*kind.compose, "up", "-d")
    _ready(kind)
    _filled(stack, "redis-cli --no-auth-warning -a report --pipe")
    kind.down()
    return kind


def _tuned(stack: Stack) -> Kind:
    stack.apply()
    _filled(stack, 'REDISCLI_AUTH="$(cat /run/secrets/redis_password)" redis-cli --pipe')
    kind = Kind(stack=stack, file=stack.root / "docker" / "docker-compose.yml")
    kind.down()
    return kind


def _filled(stack: Stack, command: str) -> None:
    text = "".join(f"SET session:{number} {_VALUE}\r\n" for number in range(_KEYS))
    stack.docker("exec", "-i", stack.name("redis"), "sh", "-c", command, text=text)


def _start(kind: Kind, argv: Sequence[str]) -> float:
    """Seconds of a start alone."""
    try:
        return _started(kind, argv)
    finally:
        kind.down()


def _started(kind: Kind, argv: Sequence[str]) -> float:
    """Seconds from the command until the API is healthy."""
    began = time.monotonic()
    with subprocess.Popen(
        argv,
        env=lab.environment(kind.stack),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as command:
        _ready(kind)
        took = time.monotonic() - began
        if command.wait(DEADLINE_S):
            raise RuntimeError(f"{' '.join(argv)} ended with {command.returncode}")
    return took


def _ready(kind: Kind) -> None:
    wait_until(lambda: _healthy(kind), "the API does not become healthy", timeout=DEADLINE_S)


def _healthy(kind: Kind) -> bool:
    try:
        with kind.client() as client:
            return client.get("/api/health").is_success
    except httpx.TransportError:
        return False


def _session(client: httpx.Client) -> Callable[[], httpx.Response]:
    """Three requests: a new session, a message in it, and both read back."""

    def ask() -> httpx.Response:
        made = client.post("/api/sessions").json()
        path, bearer = f"/api/sessions/{made['id']}", {"authorization": f"Bearer {made['token']}"}
        message = {"role": "user", "content": "안녕하세요"}
        client.post(f"{path}/messages", json=message, headers=bearer).raise_for_status()
        return client.get(path, headers=bearer)

    return ask


def _timed(ask: Callable[[], httpx.Response]) -> list[float]:
    for _ in range(WARM_UP):
        ask().raise_for_status()
    return [_milliseconds(ask) for _ in range(REQUESTS)]


def _milliseconds(ask: Callable[[], httpx.Response]) -> float:
    began = time.perf_counter()
    ask().raise_for_status()
    return 1000 * (time.perf_counter() - began)


def _shown(starts: Mapping[str, list[float]], latencies: Mapping[str, Sides]) -> str:
    old, new = starts["before"], starts["after"]
    rows = [
        _row("start-up", "0.70-0.80", old, new, "s"),
        _row("start-up, after by `calm up`", "0.70-0.80", old, starts["calm up"], "s"),
        _row("start-up, before nobody waits", "0.70-0.80", starts["nobody waits"], new, "s"),
        *(_row(name, "0.50", *sides, "ms") for name, sides in latencies.items()),
    ]
    head = ("medians", "before", "after", "ratio", "half of them", "expected")
    return (
        f"{results.table(head, rows)}\n\n"
        f"{ROUNDS} starts of each kind; {BLOCKS} blocks of {REQUESTS} requests of each kind, one after the "
        "other. The ratio is the median of those of the pairs, beside it the middle half of them."
    )


def _row(name: str, expected: str, before: list[float], after: list[float], unit: str) -> tuple[str, ...]:
    ratios = [new / old for old, new in zip(before, after, strict=True)]
    figures = [f"{median(side):.2f} {unit}" for side in (before, after)]
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return (name, *figures, f"{middle:.2f}", f"{low:.2f}-{high:.2f}", expected)


if __name__ == "__main__":
    results.main("tuned", __doc__, measure)
