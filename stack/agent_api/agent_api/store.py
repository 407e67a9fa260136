"""Sessions: postgres keeps them and must be there, redis caches them and may be away."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from agent_api.config import number, secret, text

POSTGRES_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
WAIT_S = 3.0
"""How long a connection, or a part's answer to a health check, may take."""
CACHE_S = 60
"""How long a cached session lives: the longest that one is stale if redis was away when it changed."""
# Two first connections at once would both find no table, and the slower one would fail: hence the lock.
TABLE = """SELECT pg_advisory_xact_lock(20251103); CREATE TABLE IF NOT EXISTS sessions (
id uuid PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), messages jsonb NOT NULL DEFAULT '[]')"""
CREATE = "INSERT INTO sessions (id) VALUES ($1) RETURNING id::text, created_at::text"
ADD = "UPDATE sessions SET messages = messages || $2::jsonb WHERE id = $1 RETURNING id"
DELETE = "DELETE FROM sessions WHERE id = $1 RETURNING id"
SHOW = "SELECT id::text, created_at::text, messages FROM sessions WHERE id = $1"


class Store:
    """Opens no connection before it is asked, so it starts before postgres and redis do."""

    def __init__(self) -> None:
        self.pool = asyncpg.create_pool(
            host=text("DATABASE_HOST", "postgres"), port=number("DATABASE_PORT", 5432),
            user=text("DATABASE_USER", "agent_user"), password=lambda: secret("POSTGRES_PASSWORD"),
            database=text("DATABASE_NAME", "agent_system"), timeout=WAIT_S, command_timeout=10,
            min_size=0, max_size=number("DATABASE_POOL_SIZE", 10), init=lambda made: made.execute(TABLE),
        )  # fmt: skip
        self.redis: Any = Redis(
            host=text("REDIS_HOST", "redis"), port=number("REDIS_PORT", 6379),
            credential_provider=RedisPassword() if secret("REDIS_PASSWORD") else None,
            socket_connect_timeout=WAIT_S, socket_timeout=WAIT_S, retry=Retry(NoBackoff(), 1),
        )  # fmt: skip

    async def session(self, key: UUID) -> dict[str, Any]:
        """A session with its messages, oldest first."""
        if cached := await cache(self.redis.get(f"session:{key}")):
            return dict(json.loads(cached))
        session = await self.change(SHOW, key)
        session["messages"] = json.loads(session["messages"])
        await cache(self.redis.set(f"session:{key}", json.dumps(session), ex=CACHE_S))
        return session

    async def change(self, query: str, key: UUID, *values: str) -> dict[str, Any]:
        """The row that a query gives; 404 if there is no such session."""
        if (row := await self.pool.fetchrow(query, key, *values)) is None:
            raise HTTPException(404, "there is no such session")
        await cache(self.redis.delete(f"session:{key}"))
        return dict(row)

    async def health(self) -> dict[str, dict[str, Any]]:
        """By part: `{"ok": true, "latency_ms": 0.8}` or `{"ok": false, "error": "…"}`."""
        questions = (self.pool.fetchval("SELECT 1"), self.redis.ping())
        return dict(zip(("postgres", "redis"), await asyncio.gather(*map(asked, questions)), strict=True))


class RedisPassword(CredentialProvider):
    async def get_credentials_async(self) -> tuple[str]:
        return (secret("REDIS_PASSWORD"),)


async def cache(command: Awaitable[Any]) -> Any:
    try:
        return await command
    except (RedisError, OSError) as error:
        logging.getLogger(__name__).warning("going on without redis: %s", plain(error))


async def asked(question: Awaitable[Any]) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        await asyncio.wait_for(question, WAIT_S)
    except (*POSTGRES_AWAY, RedisError) as error:
        return {"ok": False, "error": plain(error)}
    return {"ok": True, "latency_ms": round((time.perf_counter() - began) * 1000, 2)}


def plain(error: BaseException) -> str:
    """What went wrong, on one line; drivers name the user and the address, never the password."""
    says = "timed out" if isinstance(error, TimeoutError) else " ".join(str(error).split())
    return says or type(error).__name__
