"""What the agent of a host sees: LM Studio, containers, end points, the machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyinfra.api import FactBase
from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override


class Health(FactBase[Mapping[str, Any]]):
    """The document of `calm snapshot --json`, taken by the agent under ``root``; empty without an answer."""

    @staticmethod
    @override
    def default() -> Mapping[str, Any]:
        return {}

    @override
    def command(self, root: str) -> StringCommand:
        calm, settings = f"{root}/agent/venv/bin/calm", f"{root}/settings.json"
        asked = (QuoteString(calm), "snapshot", "--settings", QuoteString(settings), "--json")
        # An agent that is broken is drift, and no reason to fail the host here.
        return StringCommand(*asked, "2>/dev/null || true")

    @override
    def process(self, output: list[str]) -> Mapping[str, Any]:
        try:
            found = json.loads(output[-1])
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
