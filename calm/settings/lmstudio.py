"""LM Studio: what its own settings files should hold. ``None`` leaves a value as the user has it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from calm.settings.base import AbsolutePath, Address, Enabled, PathText, Port, Section


class Server(Section):
    """LM Studio's HTTP server."""

    port: Port = Field(default=1234, description="Port (TCP); 1234 is LM Studio's own default.")
    bind: Address = Field(default="127.0.0.1", description="Address that it listens on.")
    cors: bool = Field(default=False, description="Whether web pages of other origins may call it.")
    autostart: bool = Field(
        default=True, description="Whether the server starts with LM Studio; no model is loaded by that."
    )


class Jit(Section):
    """Models that load on demand and leave when idle."""

    enabled: bool = Field(default=True, description="Load a model when a request names it.")
    ttl_seconds: int = Field(
        default=3600, ge=1, description="Idle seconds after which such a model leaves memory."
    )
    auto_evict: bool = Field(
        default=True, description="Unload the model before when another one is loaded on demand."
    )


class LMStudio(Section):
    """LM Studio on the host."""

    enabled: Enabled = Field(
        default="auto", description="True, False, or auto: left out where it is not installed."
    )
    home: AbsolutePath | None = Field(
        default=None, description="LM Studio's home folder; None: found as LM Studio itself finds it."
    )
    executables: Annotated[tuple[PathText, ...], Field(strict=False)] = Field(
        default=(), description="Further globs of executables that are LM Studio, beside the known places."
    )
    restart: bool = Field(
        default=False,
        description="Stop LM Studio to change its settings while it runs, and start it again. "
        "False: the change waits for its next start.",
    )
    autoload: bool = Field(
        default=False, description="Whether LM Studio loads its bundled model by itself at launch."
    )
    start_at_login: bool | None = Field(
        default=None, description="Whether LM Studio's service starts at login; None leaves it."
    )
    server: Server = Field(default_factory=Server, description="The HTTP server.")
    jit: Jit = Field(default_factory=Jit, description="Loading on demand.")
    guardrails: Literal["off", "low", "medium", "high"] | None = Field(
        default=None, description="How strictly LM Studio refuses models that are too large; None leaves it."
    )
    context_length: int | None = Field(
        default=None, ge=1, description="Default context length of a model, in tokens; None leaves it."
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Further keys of LM Studio's settings.json, merged as they are."
    )
    server_config: dict[str, Any] = Field(
        default_factory=dict, description="Further keys of its http-server-config.json, merged as they are."
    )
