"""One turn of a chat, answered by the chain of app.yaml. `llm/` is a copy of calm's client."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_api.config import text
from agent_api.llm import Chain, Client, ConfigError, NoAnswerError, chain_of, read

HISTORY = 20
"""So many of the latest messages go along with a new one."""


class ChatError(Exception):
    """There is no answer; `status` is what to say it with."""

    def __init__(self, says: str, status: int) -> None:
        super().__init__(says)
        self.status = status


class Chat:
    """The client, for as long as the API runs; a chain that cannot be used fails the chat, not the API."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.problem = ""
        try:
            self.client = Client(configured())
        except ConfigError as error:
            self.problem = str(error)
            logging.getLogger(__name__).error("there is no chat: %s", error)

    async def close(self) -> None:
        if self.client:
            await self.client.aclose()

    async def answer(self, history: Sequence[Mapping[str, Any]], said: str) -> dict[str, Any]:
        """`{"answer", "provider", "model", "tried"}`, or `ChatError`."""
        if self.client is None:
            raise ChatError(f"there is no chat: {self.problem}", 503)
        earlier = [
            {"role": message["role"], "content": message["content"]}
            for message in history[-HISTORY:]
            if message["role"] != "tool"
        ]
        try:
            answer = await self.client.ask([*earlier, {"role": "user", "content": said}])
        except NoAnswerError as error:
            raise ChatError(f"nobody answered: {error}", 502) from None
        return {
            "answer": answer.text,
            "provider": answer.provider,
            "model": answer.model,
            "tried": [{"provider": each.provider, "error": each.says} for each in answer.tried],
        }


def configured() -> Chain:
    """The chain of the file APP_YAML; without one, LM Studio at LLM_BASE_URL alone."""
    base = text("LLM_BASE_URL", "http://host.docker.internal:1234/v1").rstrip("/")
    path = Path(text("APP_YAML", "/run/agent/app.yaml"))
    if path.is_file():
        return read(path, base_url=base)
    return chain_of({"provider": "lmstudio", "endpoint": f"{base}/chat/completions"}, base_url=base)
