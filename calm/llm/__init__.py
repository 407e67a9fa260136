"""A client that obeys the section ``llm`` of app.yaml: one pool, one owner of retries, fallbacks in order.

It needs httpx, stamina and PyYAML and nothing of calm, since the reference agent API is built with it, too
(hence the relative imports). Usage:

    async with Client(read(Path("app.yaml"))) as client:
        answer = await client.ask([{"role": "user", "content": "Hello"}])
        print(answer.provider, answer.text)
"""

from .chain import Chain, ConfigError, Provider, chain_of, read
from .client import Answer, Client, NoAnswerError, Tried
from .events import AttemptError

__all__ = [
    "Answer", "AttemptError", "Chain", "Client", "ConfigError", "NoAnswerError", "Provider", "Tried",
    "chain_of", "read",
]  # fmt: skip
