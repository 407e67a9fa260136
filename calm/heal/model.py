"""The words of healing: what a rule says, what is done about it, and what came of it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["act", "report"]
Result = Literal["done", "failed", "planned", "deferred", "quarantined"]
Scope = Literal["lmstudio", "docker", "host"]

LMSTUDIO = "lmstudio"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule says of this host.

    ``target`` is ``lmstudio:<root pid>``, ``model:<id>``, ``process:<name>``, ``container:<name>``,
    ``schedule:<name>``, ``docker:junk`` or ``disk``. ``evidence`` is plain JSON, with a sentence under
    ``says``; ``since`` is when it began, in seconds since the epoch. ``action`` names the remedy that fits,
    ``None`` where there is only something to tell.
    """

    rule: str
    target: str
    evidence: Mapping[str, Any]
    since: float
    mode: Mode = "report"
    action: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "target": self.target,
            "evidence": dict(self.evidence),
            "since": self.since,
        }

    @property
    def acts(self) -> bool:
        return self.mode == "act" and self.action is not None

    @property
    def key(self) -> str:
        return budget_key(self.target)


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What was done, or why not. ``took_ms`` is null for what was not begun."""

    action: str
    target: str
    reason: str
    result: Result
    took_ms: float | None = None
    rule: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        names = ("action", "target", "reason", "result", "took_ms")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one act ended. ``deferred``: right before it, it turned out to be needless or unwise."""

    result: Literal["done", "failed", "deferred"]
    says: str


def budget_key(target: str) -> str:
    """What a budget is kept for.

    All instances of LM Studio share one: each has a new number, and something that starts a second one for
    ever would else never spend anything.
    """
    return LMSTUDIO if target.startswith(f"{LMSTUDIO}:") else target
