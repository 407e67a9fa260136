"""The section ``llm`` of the application's app.yaml: who answers, and how long a caller waits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from calm.settings.base import PathText, Section, matching
from calm.settings.units import Seconds

Provider = Annotated[
    str,
    matching(
        r"[A-Za-z][A-Za-z0-9_-]{0,62}",
        'a provider; write it such as "lmstudio", "gemini" or "ollama"',
    ),
]
Endpoint = Annotated[
    str,
    matching(
        r"https?://[^\s/@]+(/\S*)?",
        'an end point; write a URL such as "http://localhost:1234/v1/chat/completions"',
    ),
]
Model = Annotated[str, Field(min_length=1, max_length=256)]


class Fallback(Section):
    """Who is asked when the provider before did not answer."""

    provider: Provider = Field(description="Provider.")
    model: Model | None = Field(default=None, description="Model; None: the provider's own default.")
    endpoint: Endpoint | None = Field(default=None, description="End point (URL); None: the provider's own.")


class LLM(Section):
    """The application's language model client."""

    app_yaml: PathText = Field(
        default="app.yaml", description="The application's file; relative to root, or absolute."
    )
    provider: Provider | None = Field(
        default=None, description="Provider; None leaves what is there, and is lmstudio in a new file."
    )
    model: Model | None = Field(default=None, description="Model; None leaves what is there.")
    endpoint: Endpoint | None = Field(
        default=None,
        description="End point (URL); None leaves what is there, and is LM Studio's in a new file.",
    )
    request_timeout: Seconds = Field(default=30, gt=0, description="Seconds that one attempt may take.")
    connection_pool_size: int = Field(
        default=5,
        ge=1,
        le=1024,
        description="Most requests at the same time (count); LM Studio serves 4 per model.",
    )
    max_retries: int = Field(default=2, ge=0, le=10, description="Further attempts after the first (count).")
    retry_backoff_ms: int = Field(
        default=1000, ge=0, description="Milliseconds before the first further attempt; doubled each time."
    )
    fallbacks: Annotated[tuple[Fallback, ...], Field(strict=False)] = Field(
        default=(Fallback(provider="gemini"), Fallback(provider="ollama")),
        description="Providers that are asked in turn when the one before has failed.",
    )
