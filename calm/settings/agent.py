"""The agent: calm itself on the host, which the schedules run."""

from __future__ import annotations

from pydantic import Field

from calm.settings.base import PathText, Section


class Agent(Section):
    """How the agent gets onto a host."""

    enabled: bool = Field(default=True, description="Whether calm is installed on the host.")
    wheelhouse: PathText = Field(
        default="auto",
        description="Folder of wheels on the machine that runs calm, which are sent along for a host that "
        "reaches no index; auto: the host installs from its own index.",
    )
    python: PathText | None = Field(
        default=None,
        description="Python 3.11 or newer on the host that runs the agent; None: found on the PATH.",
    )
