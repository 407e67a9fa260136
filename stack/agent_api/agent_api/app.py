"""The HTTP side; errors are `{"error": "…"}`. With a JWT secret each session has a token that opens it."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import jwt
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_api.chat import Chat, ChatError
from agent_api.config import number, plain, secret, text
from agent_api.store import POSTGRES_AWAY, Store

log = logging.getLogger(__name__)
ROLES = ("system", "user", "assistant", "tool")


async def health(request: Request) -> Response:
    """200, or 503 that says which part fails and why."""
    checks = await request.app.state.store.health()
    status, code = ("healthy", 200) if all(check["ok"] for check in checks.values()) else ("unhealthy", 503)
    return JSONResponse({"status": status, "checks": checks}, code)


async def create_session(request: Request) -> Response:
    return JSONResponse(await opened(request.app.state.store), 201)


async def show_session(request: Request) -> Response:
    return JSONResponse(found(await request.app.state.store.session(allowed(request))))


async def delete_session(request: Request) -> Response:
    found(await request.app.state.store.delete(allowed(request)))
    return Response(status_code=204)


async def add_message(request: Request) -> Response:
    key = allowed(request)
    match await sent(request):
        # Postgres has no text with a NUL in it.
        case {"role": str(role), "content": str(said)} if role in ROLES and said and "\0" not in said:
            return JSONResponse(found(await request.app.state.store.add(key, role, said)), 201)
    raise HTTPException(422, f"a message has a role ({', '.join(ROLES)}) and a content that is not empty")


async def chat(request: Request) -> Response:
    """Answer a message within a session, a new one if none is named; both sides are kept once answered."""
    store: Store = request.app.state.store
    match await sent(request):
        case {"message": str(said), **others} if said and "\0" not in said:
            told, key = {}, others.get("session_id")
        case _:
            raise HTTPException(
                422, "a chat has a message that is not empty, and the session_id it goes on with"
            )
    if key is None:
        session = await opened(store)
        told = {"token": session["token"]} if "token" in session else {}
    else:
        session = found(await store.session(allowed(request, known(key))))
    try:
        told |= await request.app.state.chat.answer(session.get("messages", []), said)
    except ChatError as error:
        if key is None:
            await store.delete(UUID(session["id"]))
        raise HTTPException(error.status, str(error)) from None
    for role, content in (("user", said), ("assistant", told["answer"])):
        found(await store.add(UUID(session["id"]), role, content.replace("\0", "")))
    return JSONResponse({"session_id": session["id"], **told})


async def sent(request: Request) -> Any:
    try:
        return await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise HTTPException(400, "the body is not JSON") from None


def known(key: Any) -> UUID:
    try:
        return UUID(key)
    except (ValueError, TypeError, AttributeError):
        raise HTTPException(404, "there is no such session") from None


async def opened(store: Store) -> dict[str, Any]:
    """A new session, with its token if there is a JWT secret."""
    session = await store.create()
    if key := secret("JWT_SECRET"):
        session["token"] = jwt.encode({"sub": session["id"]}, key, algorithm="HS256")
    return session


def allowed(request: Request, named: UUID | None = None) -> UUID:
    """The session of this request; 401 unless the bearer token is this session's."""
    key: UUID = named or request.path_params["key"]
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    with contextlib.suppress(jwt.InvalidTokenError):
        held = secret("JWT_SECRET")
        if not held or jwt.decode(token, held, algorithms=["HS256"]).get("sub") == str(key):
            return key
    raise HTTPException(401, "the bearer token does not open this session")


def found(value: Any) -> Any:
    if value is None:
        raise HTTPException(404, "there is no such session")
    return value


async def refused(_: Request, error: Any) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def away(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the session store does not answer: {plain(error)}"}, 503)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    logging.basicConfig(level=text("LOG_LEVEL", "INFO").upper(), format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.root.level)
    app.state.store, app.state.chat = Store(), Chat()
    await app.state.store.pool
    watcher = asyncio.create_task(watch(app.state.store, number("HEALTH_CHECK_INTERVAL", 60)))
    yield
    watcher.cancel()
    await app.state.chat.close()
    await app.state.store.close()


async def watch(store: Store, interval_s: float) -> None:
    """Log each change of a part's health, looked at once per interval."""
    before: dict[str, str] = {}
    while True:
        for part, check in (await store.health()).items():
            if (now := check.get("error", "healthy")) != before.get(part):
                log.log(logging.INFO if check["ok"] else logging.ERROR, "%s: %s", part, now)
            before[part] = now
        await asyncio.sleep(interval_s)


SESSION = "/api/sessions/{key:uuid}"
app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/api/health", health),
        Route("/api/chat", chat, methods=["POST"]),
        Route("/api/sessions", create_session, methods=["POST"]),
        Route(SESSION, show_session),
        Route(SESSION, delete_session, methods=["DELETE"]),
        Route(f"{SESSION}/messages", add_message, methods=["POST"]),
    ],
    exception_handlers={HTTPException: refused} | dict.fromkeys(POSTGRES_AWAY, away),
)
