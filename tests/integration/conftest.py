"""Fixtures of the tests that converge a whole host on the lab's engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.stack import Stack
from tests.lab.ports import free_ports

Build = Callable[..., Stack]


@pytest.fixture(scope="module")
def build(
    engine: Any, unique_name: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Build]:
    """Makes hosts with a project, ports, a root and a home of their own; all is swept at the end."""
    made: list[Stack] = []

    def make(name: str, **settings: Any) -> Stack:
        ports = dict(zip(("postgres", "redis", "agent-api"), free_ports(3), strict=True))
        stack = Stack(
            folder=tmp_path_factory.mktemp(name),
            docker_env=engine.env,
            project=unique_name(name),
            ports=ports,
            settings=settings,
        )
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.sweep()
