from __future__ import annotations

from typing import Any

import pytest

from calm.settings import Settings
from calm.settings.checks import attempt_seconds, findings, host_warnings, warnings, worst_case_seconds
from calm.settings.llm import LLM
from calm.settings.units import GIB


def told(data: dict[str, Any]) -> list[str]:
    return [f"{finding.paths[0]}: {finding.message}" for finding in findings(Settings.model_validate(data))]


def test_the_defaults_go_together() -> None:
    assert findings(Settings()) == ()


@pytest.mark.parametrize(
    ("docker", "line"),
    [
        (
            {"redis": {"maxmemory": "512M"}},
            (
                "docker.redis.maxmemory: 512M would get redis killed in its limit of 512M (a "
                "snapshot under write load "
                "holds the data twice); lower maxmemory to 215M, or raise memory to 1194M"
            ),
        ),
        (
            {"redis": {"maxmemory": "384M", "persistence": "aof"}},
            (
                "docker.redis.maxmemory: 384M would get redis killed in its limit of 512M (a "
                "rewrite under write load "
                "holds the data twice); lower maxmemory to 206M, or raise memory to 938M"
            ),
        ),
        (
            {"redis": {"maxmemory": "512M", "persistence": "none"}},
            (
                "docker.redis.maxmemory: 512M would get redis killed in its limit of 512M "
                "(fragmentation and buffers "
                "come on top of maxmemory); lower maxmemory to 387M, or raise memory to 672M"
            ),
        ),
        (
            {"redis": {"maxmemory": 0}},
            (
                "docker.redis.maxmemory: 0 means no bound to redis, and the limit would kill it; "
                "set it to 215M or None"
            ),
        ),
        (
            {"redis": {"memory": "16M", "memory_reserved": 0}},
            "docker.redis.memory: 16M leaves redis no room for data; raise it to 26M",
        ),
        (
            {"postgres": {"max_connections": 200}},
            (
                "docker.postgres.memory: 1G cannot hold 200 connections that each sort; "
                "lower max_connections to 75, or raise memory to 2619M"
            ),
        ),
        (
            {"postgres": {"memory": "64M", "memory_reserved": 0, "max_connections": 20}},
            "docker.postgres.memory: 64M cannot hold 20 connections that each sort; raise memory to 315M",
        ),
        (
            {"postgres": {"memory_reserved": "2G"}},
            "docker.postgres.memory_reserved: 2G is more than the limit, memory 1G",
        ),
        (
            {"agent_api": {"database_pool_size": 20, "workers": 4}},
            (
                "docker.agent_api.database_pool_size: 4 x 20 connections are 80, and postgres "
                "has 47 of its 50 to give "
                "(3 are the superuser's); lower the pool or raise max_connections to 83"
            ),
        ),
        (
            {"agent_api": {"image": "mine:1", "build": "api"}},
            "docker.agent_api.build: build and image exclude each other; keep the one that is meant",
        ),
        (
            {"redis": {"port": 5432}},
            "docker.redis.port: port 5432 is already used by calm.docker.postgres.port",
        ),
        (
            {"agent_api": {"port": 1234}},
            "docker.agent_api.port: port 1234 is already used by calm.lmstudio.server.port",
        ),
        (
            {"services": {"nginx": {"ports": ["127.0.0.1:5000:80/tcp"]}}},
            "docker.services.nginx.ports: port 5000 is already used by calm.docker.agent_api.port",
        ),
        (
            {"services": {"nginx": {"ports": [{"target": 80, "published": "5000"}]}}},
            "docker.services.nginx.ports: port 5000 is already used by calm.docker.agent_api.port",
        ),
    ],
)
def test_values_that_cannot_go_together_are_told(docker: dict[str, Any], line: str) -> None:
    assert told({"docker": docker}) == [line]


@pytest.mark.parametrize(
    "data",
    [
        {"docker": {"agent_api": {"enabled": False, "port": 5432, "database_pool_size": 500}}},
        {"docker": {"enabled": False, "redis": {"port": 5432}}},
        {"docker": {"agent_api": {"port": 1234}}, "lmstudio": {"enabled": False}},
        {"docker": {"services": {"x": {"ports": ["80", 443, "9000-9005:90-95"]}}}},
        {"docker": {"redis": {"maxmemory": "215M"}}},
        {"docker": {"redis": {"maxmemory": "384M", "persistence": "none"}}},
        {"llm": {"fallbacks": [{"provider": "gemini"}, {"provider": "gemini", "model": "flash"}]}},
    ],
)
def test_what_goes_together_is_left_alone(data: dict[str, Any]) -> None:
    assert told(data) == []


@pytest.mark.parametrize(
    ("llm", "line"),
    [
        ({"provider": "gemini"}, "llm.fallbacks: entry 1, gemini, was asked before it"),
        (
            {"fallbacks": [{"provider": "a"}, {"provider": "a"}]},
            "llm.fallbacks: entry 2, a, was asked before it",
        ),
    ],
)
def test_a_chain_that_comes_back_is_told(llm: dict[str, Any], line: str) -> None:
    assert told({"llm": llm}) == [f"{line}; who has failed once is not asked again"]


def test_the_longest_wait_counts_every_attempt_and_pause() -> None:
    assert attempt_seconds(LLM()) == 3 * 30 + 1 + 2
    assert worst_case_seconds(LLM()) == 3 * 93
    assert worst_case_seconds(LLM(max_retries=0, fallbacks=())) == 30


def test_the_defaults_say_how_long_a_caller_waits_and_who_queues() -> None:
    assert warnings(Settings()) == (
        (
            "calm.llm: a caller waits up to 93 s for one provider (3 x 30 s and the pauses "
            "between), up to 4.65 min "
            "with 2 fallbacks"
        ),
        (
            "calm.llm.connection_pool_size: 5 requests at once, and LM Studio serves 4 per "
            "model unless told otherwise; "
            "the rest wait in its queue while their timeout runs"
        ),
    )


@pytest.mark.parametrize(
    ("data", "start"),
    [
        ({"docker": {"bind": "0.0.0.0"}}, "calm.docker.bind: 0.0.0.0 lets other machines reach these ports"),
        ({"docker": {"bind": "::"}}, "calm.docker.bind: :: lets other machines reach these ports"),
        (
            {"lmstudio": {"server": {"bind": "192.168.1.5"}}},
            "calm.lmstudio.server.bind: 192.168.1.5 lets other",
        ),
        ({"docker": {"redis": {"swap": "256M"}}}, "calm.docker.redis.swap: 256M of swap hide a limit"),
        (
            {"secrets": {"redis_password": {"env": "P"}, "rotate": {"redis_password": 2}}},
            "calm.secrets.rotate.redis_password: the inventory gives it",
        ),
        (
            {"docker": {"agent_api": {"environment": {"STRIPE_API_KEY": "x"}}}},
            "calm.docker.agent_api.environment.STRIPE_API_KEY: looks like a secret",
        ),
    ],
)
def test_what_may_not_be_meant_is_said(data: dict[str, Any], start: str) -> None:
    said = warnings(Settings.model_validate(data))
    assert [line for line in said if line.startswith(start)], said


def test_limits_beyond_the_host_are_said() -> None:
    assert host_warnings(Settings(), cpus=1, memory_bytes=3 * GIB) == (
        "agent_api: the limit of 2 cpus is beyond the host's 1; 1 take effect",
        "the services' limits sum up to 3.5G, and the host has 3.0G",
    )
    assert host_warnings(Settings(), cpus=8, memory_bytes=16 * GIB) == ()
