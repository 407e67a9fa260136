"""Settings: what a host should be. Typed, closed to unknown keys, immutable."""

from __future__ import annotations

from pydantic import Field

from calm.settings.agent import Agent
from calm.settings.base import AbsolutePath, Section
from calm.settings.docker import Docker
from calm.settings.healing import Healing
from calm.settings.llm import LLM
from calm.settings.lmstudio import LMStudio
from calm.settings.schedules import Schedules
from calm.settings.secrets import Secrets

__all__ = ["Settings"]


class Settings(Section):
    """The whole tree below ``calm``. ``calm.settings.load.load`` makes one and checks it as a whole."""

    root: AbsolutePath = Field(
        default="~/calm", description="Folder of everything that calm writes on a host, foreign files aside."
    )
    docker: Docker = Field(default_factory=Docker, description="The Docker Compose stack.")
    lmstudio: LMStudio = Field(default_factory=LMStudio, description="LM Studio.")
    llm: LLM = Field(default_factory=LLM, description="The application's language model client, in app.yaml.")
    secrets: Secrets = Field(default_factory=Secrets, description="Where secrets come from.")
    schedules: Schedules = Field(default_factory=Schedules, description="What the host's scheduler runs.")
    healing: Healing = Field(default_factory=Healing, description="What calm does by itself.")
    agent: Agent = Field(default_factory=Agent, description="calm itself on the host.")
