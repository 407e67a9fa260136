"""What ``calm llm ask`` does: one question along the chain of app.yaml."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calm.cli.errors import CommandError
from calm.cli.exits import Exit
from calm.llm import Answer, Chain, Client, ConfigError, NoAnswerError, Tried, chain_of, read
from calm.settings import Settings


def asked(settings: Settings, root: Path, text: str, *, max_tokens: int | None) -> dict[str, Any]:
    """The document that ``calm llm ask --json`` prints; ``text`` is null where nobody answered."""
    chain = _chain(settings, root)
    # Retries are told with the result: the library's own log would come on top.
    logging.getLogger("stamina").setLevel(logging.ERROR)
    try:
        answer = asyncio.run(_ask(chain, text, {} if max_tokens is None else {"max_tokens": max_tokens}))
    except NoAnswerError as error:
        return _document(chain, error.tried, None)
    return _document(chain, answer.tried, answer)


async def _ask(chain: Chain, text: str, options: dict[str, Any]) -> Answer:
    async with Client(chain) as client:
        return await client.ask([{"role": "user", "content": text}], **options)


def _document(chain: Chain, tried: tuple[Tried, ...], answer: Answer | None) -> dict[str, Any]:
    return {
        "schema": 1,
        "text": answer.text if answer else None,
        "provider": answer.provider if answer else None,
        "model": answer.model if answer else None,
        "seconds": round(answer.seconds, 3) if answer else None,
        "tried": [asdict(each) for each in tried],
        "worst_case_seconds": chain.worst_case_seconds,
    }


def _chain(settings: Settings, root: Path) -> Chain:
    """The chain of app.yaml; where there is no such file, of the settings that would write it."""
    path, secrets = root / Path(settings.llm.app_yaml).expanduser(), root / "secrets"
    try:
        if path.is_file():
            return read(path, secrets=secrets)
        return chain_of(settings.llm.model_dump(mode="json", exclude_none=True), secrets=secrets)
    except ConfigError as error:
        raise CommandError(str(error), code=Exit.INVALID) from None
