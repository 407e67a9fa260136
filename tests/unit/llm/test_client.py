"""The client against servers that fail in every way that they know."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import psutil
import pytest

from calm.llm import AttemptError, Chain, Client, NoAnswerError, Provider
from calm.settings.checks import worst_case_seconds
from calm.settings.llm import LLM
from tests.lab import paced
from tests.lab.paced import Pace, Paced

FAULTS = ("refused", "hang", "reset", "429", "500", "garbage", "error200", "empty", "die", "401")
ASKED_AGAIN = ("refused", "hang", "reset", "429", "500")
HELLO = ({"role": "user", "content": "안녕"},)
FAST = Pace(first=0.001, gap=0.001, tokens=4)
TEXT = "차분한 기계는 제 속도로 "
SLACK_S = 1.0
"""What a busy machine may add to the longest wait: it is not the client's."""
TIMEOUTS = (0.3, 1.0, 5.0)
"""A server that is well may need longer than the first on a busy machine; what is wrong is wrong with all."""


@pytest.fixture(scope="module")
def server() -> Iterator[Paced]:
    with paced.running(FAST) as running:
        yield running


@pytest.fixture
def providers(server: Paced, free_port: Callable[[], int]) -> Callable[..., tuple[Provider, ...]]:
    nobody = free_port()

    def named(*faults: str) -> tuple[Provider, ...]:
        closed = f"http://127.0.0.1:{nobody}/v1/chat/completions"
        return tuple(
            Provider(
                name=f"p{at}",
                model=fault or "well",
                endpoint=closed if fault == "refused" else server.url(fault),
            )
            for at, fault in enumerate(faults)
        )

    return named


def quick(providers: tuple[Provider, ...], **others: float) -> Chain:
    values = {"request_timeout": 0.3, "connection_pool_size": 2, "max_retries": 1, "retry_backoff": 0.02}
    return Chain(providers=providers, **(values | others))  # type: ignore[arg-type]


async def check(chain: Chain, faults: Sequence[str]) -> None:
    """The first that is well answers, in time, and each before it is named with its reason."""
    began = time.monotonic()
    async with Client(chain) as client:
        answer = await client.ask(HELLO)
    assert answer.provider == f"p{len(faults)}", faults
    assert answer.text == TEXT
    assert time.monotonic() - began < chain.worst_case_seconds + SLACK_S, faults
    for fault, tried in zip(faults, answer.tried, strict=True):
        assert tried.attempts == (2 if fault in ASKED_AGAIN else 1), (faults, tried)
        assert tried.says


def sample() -> list[tuple[str, ...]]:
    pairs = itertools.product(FAULTS, repeat=2)
    triples = random.Random(5).sample(list(itertools.product(FAULTS, repeat=3)), 24)
    return [(fault,) for fault in FAULTS] + random.Random(7).sample(list(pairs), 20) + triples


async def check_all(
    combinations: Sequence[tuple[str, ...]], providers: Callable[..., tuple[Provider, ...]]
) -> None:
    slots, (*hurried, patient) = asyncio.Semaphore(12), TIMEOUTS

    async def one(faults: tuple[str, ...]) -> None:
        async with slots:
            for seconds in hurried:
                with contextlib.suppress(AssertionError, NoAnswerError):
                    await check(quick(providers(*faults, ""), request_timeout=seconds), faults)
                    return
            await check(quick(providers(*faults, ""), request_timeout=patient), faults)

    await asyncio.gather(*map(one, combinations))


def test_whoever_fails_the_next_one_answers(providers: Callable[..., tuple[Provider, ...]]) -> None:
    asyncio.run(check_all(sample(), providers))


@pytest.mark.full
def test_every_combination_up_to_three_deep(providers: Callable[..., tuple[Provider, ...]]) -> None:
    every = [combination for deep in (1, 2, 3) for combination in itertools.product(FAULTS, repeat=deep)]
    asyncio.run(check_all(every, providers))
    assert len(every) == 1110


def test_when_all_fail_each_says_why(providers: Callable[..., tuple[Provider, ...]]) -> None:
    chain = quick(providers("refused", "401", "die"))

    async def ask() -> NoAnswerError:
        async with Client(chain) as client:
            with pytest.raises(NoAnswerError) as caught:
                await client.ask(HELLO)
            return caught.value

    error = asyncio.run(ask())
    assert [tried.kind for tried in error.tried] == ["refused", "http_401", "broken_stream"]
    assert "status 401 on purpose" in str(error)


@asynccontextmanager
async def alone(pace: Pace, fault: str = "", **others: float) -> AsyncIterator[tuple[Client, Paced]]:
    """A client and a server in the same loop."""
    server = Paced(pace=pace, fault=fault)
    listening = await server.serve()
    provider = Provider(name="only", model="m", endpoint=server.url())
    async with Client(quick((provider,), **others)) as client:
        yield client, server
    listening.close()


@pytest.mark.parametrize(
    ("header", "attempts", "least_s"),
    [
        ("0.2", 2, 0.2),
        ("0", 2, 0.0),
        ("3600", 1, 0.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 2, 0.0),
        ("soon", 2, 0.0),
    ],
)
def test_retry_after_is_obeyed_within_the_time(header: str, attempts: int, least_s: float) -> None:
    async def ask() -> tuple[int, float]:
        async with alone(replace(FAST, retry_after=header), "429", request_timeout=1.0) as (client, server):
            began = time.monotonic()
            with pytest.raises(NoAnswerError):
                await client.ask(HELLO)
            return len(server.exchanges), time.monotonic() - began

    asked, seconds = asyncio.run(ask())
    assert asked == attempts
    assert least_s <= seconds < least_s + 5 * SLACK_S


def test_a_stream_is_not_asked_for_again_after_its_first_token() -> None:
    pieces: list[str] = []

    async def listen(client: Client) -> None:
        async for piece in client.stream(HELLO):
            pieces.append(piece)

    async def ask() -> int:
        async with alone(FAST, "die", max_retries=5) as (client, server):
            with pytest.raises(AttemptError, match="broke off"):
                await listen(client)
            return len(server.exchanges)

    assert asyncio.run(ask()) == 1
    assert pieces == ["차분한 ", "기계는 "]


def test_reasoning_is_no_text_but_counts_as_a_beginning() -> None:
    async def ask() -> str:
        async with alone(replace(FAST, reasoning=2)) as (client, _):
            return (await client.ask(HELLO)).text

    assert asyncio.run(ask()) == "제 속도로 "


def test_an_answer_that_is_not_streamed_is_an_answer() -> None:
    async def ask() -> str:
        async with alone(FAST, "whole") as (client, _):
            return (await client.ask(HELLO)).text

    assert asyncio.run(ask()) == TEXT


def test_an_answer_without_an_end_ends_with_the_time() -> None:
    async def ask() -> NoAnswerError:
        async with alone(FAST, "endless") as (client, _):
            with pytest.raises(NoAnswerError) as caught:
                await client.ask(HELLO)
            return caught.value

    (tried,) = asyncio.run(ask()).tried
    assert (tried.kind, tried.attempts) == ("timeout", 1)


POOL = 4


async def crowd(requests: int, callers: int) -> tuple[Paced, list[int]]:
    """Many callers on a small pool; how many sockets it has more than before after each quarter."""
    pace, sockets, this = Pace(first=0.0, gap=0.0, tokens=1), list[int](), psutil.Process()
    async with alone(pace, request_timeout=60.0, connection_pool_size=POOL) as (client, server):
        before = len(this.net_connections())
        for _ in range(4):
            todo = iter(range(requests // 4))

            async def caller(todo: Iterator[int] = todo) -> None:
                for _ in todo:
                    await client.ask(HELLO)

            await asyncio.gather(*(caller() for _ in range(callers)))
            sockets.append(len(this.net_connections()) - before)
    return server, sockets


@pytest.mark.parametrize("requests", [400, pytest.param(10_000, marks=pytest.mark.full)])
def test_sixty_four_callers_share_the_pool_and_leave_nothing(requests: int) -> None:
    before = psutil.Process().memory_info().rss
    server, sockets = asyncio.run(crowd(requests, 64))
    assert len(server.exchanges) == requests
    assert server.most_open <= POOL
    # Client and server are this one process; one that was idle for too long is closed meanwhile.
    assert max(sockets) <= 2 * POOL
    assert psutil.Process().memory_info().rss - before < 64 * 2**20


def test_a_caller_that_gives_up_gives_its_connection_back() -> None:
    async def ask() -> int:
        async with alone(replace(FAST, first=0.2), connection_pool_size=1) as (client, server):
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.ask(HELLO)
            assert (await client.ask(HELLO)).text == TEXT
            return len(server.exchanges)

    assert asyncio.run(ask()) == 4


def test_the_longest_wait_is_the_one_that_plan_prints() -> None:
    settings = LLM()
    names = [settings.provider or "lmstudio", *(each.provider for each in settings.fallbacks)]
    chain = Chain(
        providers=tuple(Provider(name=name, model="m", endpoint="http://x/") for name in names),
        request_timeout=settings.request_timeout,
        max_retries=settings.max_retries,
        retry_backoff=settings.retry_backoff_ms / 1000,
    )
    assert chain.worst_case_seconds == worst_case_seconds(settings)
