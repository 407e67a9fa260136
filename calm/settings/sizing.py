"""Memory settings of redis and postgres, derived from their limits so that the kernel never kills them.

Figures are bytes. Both models count what a program can use at worst and solve for the part that is ours
to choose. Tried in containers at their limits (redis 7.0, postgres 15, cgroup v1, no swap):

- redis, 512M, 400-byte values written without pause: 384mb without saving lives (RSS 399M); 384mb is
  killed in a BGSAVE; 215mb lives through eight BGSAVEs that copy all of it (216M of copies), and 206mb
  with the append-only file lives through rewrites.
- postgres, 1G, max_connections 50: 46 clients that sort 400,000 rows at the same time all finish.
"""

from __future__ import annotations

from bisect import bisect_left
from math import ceil
from typing import TYPE_CHECKING

from calm.settings.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from calm.settings.docker import Postgres, Redis

REDIS_BASE = 16 * MIB
"""Redis itself: code, tables and the buffers of its clients."""

REDIS_FACTORS = {"none": 1.28, "rdb": 2.3, "aof": 2.4}
"""Bytes of memory for each byte of maxmemory, at worst, by persistence mode (see ``redis_maxmemory``)."""

REDIS_LEAST = 4 * MIB
"""A maxmemory below this is no cache."""


def redis_maxmemory(redis: Redis) -> int:
    """What redis may fill with data: the explicit setting, else the most that survives, in whole MiB.

    ``maxmemory`` counts the data alone. What the kernel counts against the limit is more:

    - none: fragmentation of the allocator, and output buffers. Measured in a 512M container: maxmemory
      512mb is killed when full, 384mb evicts and lives. Hence 28 % on top.
    - rdb: BGSAVE forks, and each page that is written to while the child saves exists twice. With writes
      all over the data that is everything, twice, and 15 % of fragmentation on each. 384mb in 512M was
      killed in a BGSAVE under write load.
    - aof: a rewrite forks likewise, and the buffer of writes to come is not counted by maxmemory either.
    """
    return redis.maxmemory if redis.maxmemory is not None else redis_most(redis.memory, redis.persistence)


def redis_most(memory: int, persistence: str) -> int:
    """The largest maxmemory that survives in ``memory`` bytes, in whole MiB; 0 if nothing is left."""
    return max(0, int((memory - REDIS_BASE) / REDIS_FACTORS[persistence]) // MIB * MIB)


def redis_least(maxmemory: int, persistence: str) -> int:
    """The smallest memory limit in which ``maxmemory`` survives, in whole MiB."""
    return ceil((maxmemory * REDIS_FACTORS[persistence] + REDIS_BASE) / MIB) * MIB


CONNECTION = 6 * MIB
"""What one backend of postgres holds beside its sorts: its stack, catalogue caches and prepared plans."""

POSTGRES_BASE = 40 * MIB
"""Postmaster, checkpointer, writers and their buffers."""

NODES = 2
"""Sorts and hashes that one query holds at the same time."""

LEAST_WORK_MEM = MIB
AUTOVACUUM_WORKERS = 2


def postgres_parameters(postgres: Postgres) -> dict[str, str]:
    """Postgres' memory parameters, in the form in which ``SHOW`` prints them.

    The limit has to hold shared_buffers (a quarter, the manual's advice), postgres itself, autovacuum,
    one maintenance command, and max_connections clients that each hold two sorts of work_mem at the same
    time. What a sort cannot keep goes to disk, so work_mem is the one that gives way. Parallel workers
    would each take a work_mem of their own, and /dev/shm, of which Docker gives 64 MB: there are none.
    """
    shared, maintenance, autovacuum = _fixed_parts(postgres.memory)
    return {
        "max_connections": str(postgres.max_connections),
        "shared_buffers": _shown(shared),
        "work_mem": _shown(work_mem(postgres.memory, postgres.max_connections)),
        "hash_mem_multiplier": "1",
        "maintenance_work_mem": _shown(maintenance),
        "autovacuum_work_mem": _shown(autovacuum),
        "autovacuum_max_workers": str(AUTOVACUUM_WORKERS),
        "effective_cache_size": _shown(_whole(postgres.memory * 5 // 8)),
        "temp_buffers": _shown(2 * MIB),
        "wal_buffers": _shown(min(16 * MIB, max(MIB, _whole(shared // 32)))),
        "max_worker_processes": "4",
        "max_parallel_workers": "2",
        "max_parallel_workers_per_gather": "0",
        "max_parallel_maintenance_workers": "0",
    }


def work_mem(memory: int, connections: int) -> int:
    """Bytes that one sort may hold; below ``LEAST_WORK_MEM`` the limit is too small for so many clients."""
    shared, maintenance, autovacuum = _fixed_parts(memory)
    fixed = POSTGRES_BASE + shared + maintenance + autovacuum * AUTOVACUUM_WORKERS
    left = (memory - fixed - connections * CONNECTION) // connections // NODES
    step = MIB if left >= 8 * MIB else 256 * KIB
    return left // step * step


def postgres_least(connections: int) -> int:
    """The smallest memory limit in which ``connections`` clients can sort, in whole MiB."""
    most = 8 * 1024 * KIB
    fits = bisect_left(range(most), True, key=lambda mib: work_mem(mib * MIB, connections) >= LEAST_WORK_MEM)
    return fits * MIB


def postgres_most(memory: int) -> int:
    """The most connections that fit in ``memory``; 0 if not even one does."""
    return bisect_left(range(1, 10_001), True, key=lambda many: work_mem(memory, many) < LEAST_WORK_MEM)


def _fixed_parts(memory: int) -> tuple[int, int, int]:
    """shared_buffers, maintenance_work_mem and autovacuum_work_mem."""
    maintenance = min(2 * GIB, max(8 * MIB, _whole(memory // 16)))
    return max(8 * MIB, _whole(memory // 4)), maintenance, max(4 * MIB, _whole(maintenance // 2))


def _whole(size: int) -> int:
    return size // MIB * MIB


def _shown(size: int) -> str:
    """A size as ``SHOW`` prints it: in the largest unit that it is a whole multiple of."""
    for unit, factor in (("GB", GIB), ("MB", MIB)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size // KIB}kB"
