"""What the desired state of a host is made from: its settings, and what the probe found there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from calm.settings import Settings


class Host(Protocol):
    """The part of a drift context that the desired state depends on.

    ``state`` is the probe's answer, ``record`` what apply last did (empty: never).
    """

    @property
    def settings(self) -> Settings: ...
    @property
    def state(self) -> Mapping[str, Any]: ...
    @property
    def record(self) -> Mapping[str, Any]: ...
