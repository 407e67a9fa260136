"""The HTTP side; errors are `{"error": "…"}`. With a JWT secret each session has a token that opens it."""

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import jwt
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_api.chat import Chat
from agent_api.config import number, secret, text
from agent_api.llm import ConfigError, NoAnswerError
from agent_api.store import ADD, CREATE, DELETE, POSTGRES_AWAY, Store, plain

log = logging.getLogger(__name__)
ROLES = ("system", "user", "assistant", "tool")


async def health(request: Request) -> Response:
    """200, or 503 that says which part fails and why."""
    checks = await request.state.store.health()
    status, code = ("healthy", 200) if all(check["ok"] for check in checks.values()) else ("unhealthy", 503)
    return JSONResponse({"status": status, "checks": checks}, code)


async def create_session(request: Request) -> Response:
    session = await request.state.store.change(CREATE, uuid4())
    return JSONResponse(session | opened_by(session["id"]), 201)


async def show_session(request: Request) -> Response:
    return JSONResponse(await request.state.store.session(allowed(request)))


async def delete_session(request: Request) -> Response:
    await request.state.store.change(DELETE, allowed(request))
    return Response(status_code=204)


async def add_message(request: Request) -> Response:
    key, body = allowed(request), await sent(request, "content")
    if body.get("role") not in ROLES:
        raise HTTPException(422, f"the role is one of {', '.join(ROLES)}")
    kept = message(body["role"], body["content"])
    await request.state.store.change(ADD, key, json.dumps([kept]))
    return JSONResponse(kept, 201)


async def chat(request: Request) -> Response:
    """Answer a message within a session, a new one if none is named; both sides are kept once answered."""
    store, body = request.state.store, await sent(request, "message")
    named, said = body.get("session_id"), body["message"]
    session = {} if named is None else await store.session(allowed(request, named))
    told = await request.state.chat.answer(session.get("messages", []), said)
    if not session:
        session = await store.change(CREATE, uuid4())
        told |= opened_by(session["id"])
    turn = [message("user", said), message("assistant", told["answer"].replace("\0", ""))]
    await store.change(ADD, UUID(session["id"]), json.dumps(turn))
    return JSONResponse({"session_id": session["id"], **told})


async def sent(request: Request, needed: str) -> dict[str, Any]:
    """The body: an object with a text under `needed`; postgres has no text with a NUL in it."""
    with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError):
        match await request.json():
            case {**body} if isinstance(said := body.get(needed), str) and said and "\0" not in said:
                return body
        raise HTTPException(422, f"an object with a {needed} that is not empty is needed")
    raise HTTPException(400, "the body is not JSON")


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content, "created_at": datetime.now(UTC).isoformat()}


def opened_by(session: str) -> dict[str, str]:
    """The token of a session; nothing without a JWT secret."""
    key = secret("JWT_SECRET")
    return {"token": jwt.encode({"sub": session}, key, algorithm="HS256")} if key else {}


def allowed(request: Request, named: Any = "") -> UUID:
    """The session that is meant; 404 if that is no name of one, 401 unless the bearer token is its own."""
    try:
        key = UUID(str(request.path_params.get("key", named)))
    except ValueError:
        raise HTTPException(404, "there is no such session") from None
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    token = opened_by(str(key)).get("token", given)
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise HTTPException(401, "the bearer token does not open this session")
    return key


async def refused(_: Request, error: Any) -> Response:
    """What the API says about an error of each kind."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    code, says = next(told for kind, told in FAILURES.items() if isinstance(error, kind))
    log.warning("%s: %s", says, plain(error))
    return JSONResponse({"error": f"{says}: {plain(error)}"}, code)


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
    logging.basicConfig(level=text("LOG_LEVEL", "INFO").upper(), format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.root.level)
    store = Store()
    async with store.pool, contextlib.aclosing(store.redis), contextlib.aclosing(Chat()) as answering:
        watcher = asyncio.create_task(watch(store, number("HEALTH_CHECK_INTERVAL", 60)))
        yield {"store": store, "chat": answering}
        watcher.cancel()
        store.pool.terminate()


async def watch(store: Store, interval_s: float) -> None:
    """Log each change of a part's health, looked at once per interval."""
    before: dict[str, str] = {}
    while True:
        for part, check in (await store.health()).items():
            if (now := check.get("error", "healthy")) != before.get(part):
                log.log(logging.INFO if check["ok"] else logging.ERROR, "%s: %s", part, now)
            before[part] = now
        await asyncio.sleep(interval_s)


SESSION = "/api/sessions/{key}"
ROUTES = [
    Route("/api/health", health), Route("/api/chat", chat, methods=["POST"]),
    Route("/api/sessions", create_session, methods=["POST"]), Route(SESSION, show_session),
    Route(SESSION, delete_session, methods=["DELETE"]),
    Route(f"{SESSION}/messages", add_message, methods=["POST"]),
]  # fmt: skip
FAILURES: dict[type[Exception], tuple[int, str]] = {
    ConfigError: (503, "there is no chat"), NoAnswerError: (502, "nobody answered"),
    **dict.fromkeys(POSTGRES_AWAY, (503, "the session store does not answer")),
}  # fmt: skip
HANDLERS: dict[Any, Any] = dict.fromkeys((HTTPException, *FAILURES), refused)
app = Starlette(lifespan=lifespan, routes=ROUTES, exception_handlers=HANDLERS)
