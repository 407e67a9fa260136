"""From a pyinfra inventory to the layers of one host's settings.

pyinfra merges only the top level of a host's data, so that ``calm`` in a group would hide all of ``calm``
in ``all``. The layers are read one by one here and merged deeply by :mod:`calm.settings.load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from calm.settings.load import Layer


class InventoryLike(Protocol):
    """The part of ``pyinfra.api.Inventory`` that settings come from."""

    def get_data(self) -> Mapping[str, Any]: ...
    def get_group_data(self, group: str) -> Mapping[str, Any]: ...
    def get_host_data(self, hostname: str) -> Mapping[str, Any]: ...
    def get_override_data(self) -> Mapping[str, Any]: ...


def layers(inventory: InventoryLike, host: str, groups: list[str], *, source: str) -> list[Layer]:
    """The layers of ``host``, lowest first: all, its groups, itself, ``--data``.

    ``source`` is how messages name the inventory.
    """
    from calm.settings.load import Layer

    named = [("all", inventory.get_group_data("all") or inventory.get_data())]
    named += [(group, inventory.get_group_data(group)) for group in groups if group != "all"]
    found = [(f"{source}: group {name}", data) for name, data in named]
    found.append((f"{source}: host {host}", inventory.get_host_data(host)))
    found.append(("--data", inventory.get_override_data()))
    return [Layer(source=name, data=data["calm"]) for name, data in found if data and "calm" in data]
