"""Which hosts a command is about: the checkout, the inventory file, the limit, the data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_INVENTORY = "inventories/local.py"


class InventoryError(Exception):
    """The inventory, or the checkout around it, cannot be used. The text says what to do."""


class NoHostError(Exception):
    """The inventory, or ``--limit``, names no host."""


class WrongSettingsError(Exception):
    """The settings of some hosts are wrong, so nothing was run on any. The text is all that is wrong."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The hosts of one command. ``data`` lies over every host's settings, as ``--data`` gave it.

    ``names`` narrows further what ``limit`` leaves, by whole names: the hosts of one pass of several.
    """

    inventory: Path
    checkout: Path
    limit: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    names: frozenset[str] | None = None

    @property
    def source(self) -> str:
        """How messages name the inventory: as short as the current folder allows."""
        return shown(self.inventory)


def target(inventory: str | None, *, limit: Iterable[str] = (), data: Iterable[str] = ()) -> Target:
    """Resolve what the command line says.

    Raises:
        InventoryError: there is no such file, no checkout around it, or ``data`` is not K=V.
    """
    checkout = checkout_of(Path(inventory).absolute().parent if inventory else Path.cwd())
    path = Path(inventory).absolute() if inventory else checkout / DEFAULT_INVENTORY
    if not path.is_file():
        raise InventoryError(
            f"There is no inventory at {shown(path)}. Name one, or write it: see docs/how-to."
        )
    return Target(inventory=path, checkout=checkout, limit=tuple(limit), data=overrides(data))


def checkout_of(folder: Path) -> Path:
    """The nearest of ``folder``, its parents, the current folder and its parents with a ``deploy.py``.

    Raises:
        InventoryError: there is none.
    """
    here = Path.cwd()
    for candidate in (folder, *folder.parents, here, *here.parents):
        if (candidate / "deploy.py").is_file() and (candidate / "templates").is_dir():
            return candidate
    raise InventoryError(
        "This is no checkout of calm: there is no deploy.py here or above. "
        "Go to the folder that you cloned, or name an inventory inside it."
    )


def overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """``["docker.redis.memory=1G"]`` as the mapping that it stands for; values are JSON, or text.

    Raises:
        InventoryError: a pair has no ``=``, or its value begins like JSON and is none.
    """
    whole: dict[str, Any] = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        if not equals or not path.strip("."):
            raise InventoryError(f"--data {pair}: write it as KEY=VALUE, such as docker.redis.memory=1G.")
        _set(whole, path.removeprefix("calm.").split("."), _value(pair, value))
    return {"calm": whole} if whole else {}


def shown(path: Path) -> str:
    """``path`` relative to the current folder, if it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _value(pair: str, text: str) -> Any:
    # YAML would read 12:30 as 750, so a value is JSON where it can be, and text where it cannot.
    try:
        return json.loads(text)
    except ValueError:
        if text[:1] in ("[", "{"):
            raise InventoryError(f"--data {pair}: the value is not JSON.") from None
        return text


def _set(whole: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = whole.setdefault(key, {})
        if not isinstance(inner, dict):
            raise InventoryError(f"--data {'.'.join(keys)}: {key} was given a value of its own before.")
        whole = inner
    whole[keys[-1]] = value
