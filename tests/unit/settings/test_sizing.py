from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from calm.settings.docker import Postgres, Redis
from calm.settings.sizing import (
    AUTOVACUUM_WORKERS,
    CONNECTION,
    LEAST_WORK_MEM,
    POSTGRES_BASE,
    REDIS_LEAST,
    postgres_least,
    postgres_most,
    postgres_parameters,
    redis_least,
    redis_maxmemory,
    redis_most,
    work_mem,
)
from calm.settings.units import GIB, KIB, MIB, size_bytes

MODES = ("none", "rdb", "aof")
LIMITS = st.integers(min_value=6, max_value=256 * 1024).map(lambda mib: mib * MIB)


def test_redis_is_sized_below_what_was_measured_to_be_killed() -> None:
    # 512M: 512mb was killed when full; 384mb lived, and was killed in a BGSAVE under write load.
    assert 384 * MIB <= redis_most(512 * MIB, "none") < 440 * MIB
    assert redis_most(512 * MIB, "rdb") == 215 * MIB
    assert redis_most(512 * MIB, "aof") == 206 * MIB


def test_an_explicit_maxmemory_stands() -> None:
    assert redis_maxmemory(Redis(maxmemory=100 * MIB)) == 100 * MIB
    assert redis_maxmemory(Redis()) == 215 * MIB


@given(LIMITS)
def test_a_redis_that_saves_gets_less_and_always_fits_twice(memory: int) -> None:
    none, rdb, aof = (redis_most(memory, mode) for mode in MODES)
    assert none >= rdb >= aof >= 0
    assert 2 * rdb < memory


@given(LIMITS, st.sampled_from(MODES))
def test_both_ways_out_of_a_redis_that_is_too_full_are_ways_out(maxmemory: int, mode: str) -> None:
    least = redis_least(maxmemory, mode)
    assert redis_most(least, mode) >= maxmemory
    assert redis_most(least - MIB, mode) < maxmemory


@pytest.mark.parametrize("mode", MODES)
def test_a_tiny_redis_has_no_room(mode: str) -> None:
    assert redis_most(6 * MIB, mode) == 0
    assert redis_most(redis_least(REDIS_LEAST, mode), mode) == REDIS_LEAST


def test_postgres_parameters_of_the_default_service() -> None:
    assert postgres_parameters(Postgres()) == {
        "max_connections": "50",
        "shared_buffers": "256MB",
        "work_mem": "3MB",
        "hash_mem_multiplier": "1",
        "maintenance_work_mem": "64MB",
        "autovacuum_work_mem": "32MB",
        "autovacuum_max_workers": "2",
        "effective_cache_size": "640MB",
        "temp_buffers": "2MB",
        "wal_buffers": "8MB",
        "max_worker_processes": "4",
        "max_parallel_workers": "2",
        "max_parallel_workers_per_gather": "0",
        "max_parallel_maintenance_workers": "0",
    }


@given(LIMITS, st.integers(min_value=5, max_value=2000))
def test_every_client_can_sort_within_the_limit(memory: int, connections: int) -> None:
    assume(work_mem(memory, connections) >= LEAST_WORK_MEM)
    shown = postgres_parameters(Postgres(memory=memory, max_connections=connections))
    size = {name: size_bytes(value) for name, value in shown.items() if value[-1] == "B"}
    clients = connections * (CONNECTION + 2 * size["work_mem"])
    server = size["shared_buffers"] + size["maintenance_work_mem"] + POSTGRES_BASE
    assert clients + server + AUTOVACUUM_WORKERS * size["autovacuum_work_mem"] <= memory
    assert size["shared_buffers"] <= max(memory / 4, 8 * MIB)


@given(LIMITS, st.integers(min_value=5, max_value=2000))
def test_parameters_are_written_as_postgres_shows_them(memory: int, connections: int) -> None:
    assume(work_mem(memory, connections) >= LEAST_WORK_MEM)
    for value in postgres_parameters(Postgres(memory=memory, max_connections=connections)).values():
        number, unit = re.fullmatch(r"(\d+)(kB|MB|GB|)", value).groups()  # type: ignore[union-attr]
        # SHOW picks the largest unit that leaves a whole number.
        assert unit in ("", "GB") or int(number) % KIB != 0
        assert size_bytes(value) % (8 * KIB) == 0 or not unit


@given(st.integers(min_value=5, max_value=2000))
def test_both_ways_out_of_a_postgres_that_is_too_small_are_ways_out(connections: int) -> None:
    least = postgres_least(connections)
    assert work_mem(least, connections) >= LEAST_WORK_MEM
    assert work_mem(least - MIB, connections) < LEAST_WORK_MEM
    assert postgres_most(least) >= connections


def test_more_memory_never_means_fewer_connections() -> None:
    most = [postgres_most(mib * MIB) for mib in range(64, 4096, 64)]
    assert all(less <= more for less, more in pairwise(most))
    assert postgres_most(GIB) == 75
    assert postgres_most(32 * MIB) == 0
