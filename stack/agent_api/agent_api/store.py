"""Sessions: postgres keeps them and must be there, redis caches them and may be away."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from agent_api.config import number, plain, secret, text

POSTGRES_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
WAIT_S = 3.0
"""How long a connection, or a part's answer to a health check, may take."""
CACHE_S = 60
"""How long a cached session lives: the longest that one is stale if redis was away when it changed."""
TABLES = """
-- Two first connections at once would both find no table, and the slower one would fail.
SELECT pg_advisory_xact_lock(20251103);
CREATE TABLE IF NOT EXISTS sessions (id uuid PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    role text NOT NULL, content text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS messages_by_session ON messages (session_id, id);
"""
CREATE = "INSERT INTO sessions (id) VALUES ($1) RETURNING id::text, created_at::text"
ADD = """
INSERT INTO messages (session_id, role, content) VALUES ($1, $2, $3) RETURNING role, content, created_at::text
"""
DELETE = "DELETE FROM sessions WHERE id = $1 RETURNING true"
SHOW = """
SELECT id::text, created_at::text, coalesce((SELECT json_agg(m) FROM (
    SELECT role, content, created_at::text FROM messages WHERE session_id = s.id ORDER BY id
) m), '[]') AS messages
FROM sessions s WHERE id = $1
"""


class Store:
    """Opens no connection before it is asked, so it starts before postgres and redis do."""

    def __init__(self) -> None:
        self.pool = asyncpg.create_pool(
            host=text("DATABASE_HOST", "postgres"),
            port=number("DATABASE_PORT", 5432),
            user=text("DATABASE_USER", "agent_user"),
            database=text("DATABASE_NAME", "agent_system"),
            password=lambda: secret("POSTGRES_PASSWORD"),
            min_size=0,
            max_size=number("DATABASE_POOL_SIZE", 10),
            timeout=WAIT_S,
            command_timeout=10,
            init=lambda connection: connection.execute(TABLES),
        )
        self.redis: Any = Redis(
            host=text("REDIS_HOST", "redis"),
            port=number("REDIS_PORT", 6379),
            credential_provider=RedisPassword() if secret("REDIS_PASSWORD") else None,
            socket_connect_timeout=WAIT_S,
            socket_timeout=WAIT_S,
            retry=Retry(NoBackoff(), 1),
        )

    async def close(self) -> None:
        await self.redis.aclose()
        self.pool.terminate()

    async def create(self) -> dict[str, Any]:
        return dict(await self.pool.fetchrow(CREATE, uuid4()))

    async def session(self, key: UUID) -> dict[str, Any] | None:
        """A session with its messages, oldest first; None if there is none."""
        if cached := await self._cache(self.redis.get(f"session:{key}")):
            return dict(json.loads(cached))
        row = await self.pool.fetchrow(SHOW, key)
        if row is None:
            return None
        session = dict(row) | {"messages": json.loads(row["messages"])}
        await self._cache(self.redis.set(f"session:{key}", json.dumps(session), ex=CACHE_S))
        return session

    async def add(self, key: UUID, role: str, content: str) -> dict[str, Any] | None:
        """The message that was added; None if there is no such session."""
        try:
            row = await self.pool.fetchrow(ADD, key, role, content)
        except asyncpg.ForeignKeyViolationError:
            return None
        await self._cache(self.redis.delete(f"session:{key}"))
        return dict(row)

    async def delete(self, key: UUID) -> bool | None:
        """None if there was no such session."""
        deleted: bool | None = await self.pool.fetchval(DELETE, key)
        await self._cache(self.redis.delete(f"session:{key}"))
        return deleted

    async def health(self) -> dict[str, dict[str, Any]]:
        """By part: `{"ok": true, "latency_ms": 0.8}` or `{"ok": false, "error": "…"}`."""
        questions = (self.pool.fetchval("SELECT 1"), self.redis.ping())
        return dict(zip(("postgres", "redis"), await asyncio.gather(*map(asked, questions)), strict=True))

    async def _cache(self, command: Awaitable[Any]) -> Any:
        try:
            return await command
        except (RedisError, OSError) as error:
            logging.getLogger(__name__).warning("going on without redis: %s", plain(error))
            return None


class RedisPassword(CredentialProvider):
    async def get_credentials_async(self) -> tuple[str]:
        return (secret("REDIS_PASSWORD"),)


async def asked(question: Awaitable[Any]) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        await asyncio.wait_for(question, WAIT_S)
    except (*POSTGRES_AWAY, RedisError) as error:
        return {"ok": False, "error": plain(error)}
    return {"ok": True, "latency_ms": round((time.perf_counter() - began) * 1000, 2)}
