"""One turn of a chat, answered by the chain of app.yaml. `llm/` is calm's client, put here for the build."""

import asyncio
from pathlib import Path
from typing import Any

from agent_api.config import text
from agent_api.llm import Client, chain_of, read

HISTORY = 20
"""So many of the latest messages go along with a new one."""


class Chat:
    """The client; another one as soon as app.yaml is another, so that nobody has to restart the API."""

    client: Client | None = None
    made_of = 0

    async def answer(self, history: list[dict[str, Any]], said: str) -> dict[str, Any]:
        """`{"answer", "provider", "model", "tried"}`; ConfigError or NoAnswerError if there is none."""
        earlier = [{"role": each["role"], "content": each["content"]} for each in history[-HISTORY:]]
        turn = [*(each for each in earlier if each["role"] != "tool"), {"role": "user", "content": said}]
        told = await self.ready().ask(turn)
        tried = [{"provider": each.provider, "error": each.says} for each in told.tried]
        return {"answer": told.text, "provider": told.provider, "model": told.model, "tried": tried}

    async def aclose(self) -> None:
        if self.client:
            await self.client.aclose()

    def ready(self) -> Client:
        """The client for the file APP_YAML as it is now; without one, for LM Studio at LLM_BASE_URL alone."""
        base = text("LLM_BASE_URL", "http://host.docker.internal:1234/v1").rstrip("/")
        path = Path(text("APP_YAML", "/run/agent/app.yaml"))
        now = path.stat().st_mtime_ns if path.is_file() else -1
        if self.client is None or now != self.made_of:
            alone = {"provider": "lmstudio", "endpoint": f"{base}/chat/completions"}
            chain = chain_of(alone, base_url=base) if now < 0 else read(path, base_url=base)
            if old := self.client:  # Whoever is still waiting for it has an answer by then.
                later, wait_s = asyncio.get_running_loop(), old.chain.worst_case_seconds
                later.call_later(wait_s, lambda: later.create_task(old.aclose()))
            self.client, self.made_of = Client(chain), now
        return self.client
