"""From layers of host data to ``Settings``: merged, checked, and with every mistake named at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from calm.settings import Settings
from calm.settings.checks import findings
from calm.settings.explain import Location, dotted, place_of, problem_of
from calm.settings.problems import Problem, SettingsError
from calm.settings.schedules import TRIGGERS

__all__ = ["Layer", "Problem", "SettingsError", "load", "read"]

Origins = dict[Location, str]
"""The source of the last layer that touched each place in the tree."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of settings: ``data`` is the tree below ``calm``, ``source`` what to call it to a person."""

    source: str
    data: Mapping[str, Any]


def load(layers: Sequence[Layer], *, host: str) -> Settings:
    """The settings of ``host`` from its layers, the lowest first, over the defaults.

    Mappings are merged key by key, anything else is replaced. Raises ``SettingsError`` with all problems
    of all layers together, those between values included. ``host`` names what no layer set.
    """
    data, origins, problems = _merged(layers)
    settings, wrong = _validated(data)
    problems += [problem_of(error, source=_source(location, origins)) for location, error in wrong]
    spoilt = [dotted(location) for location, _ in wrong]
    known = {dotted(place): source for place, source in origins.items()}
    for found in findings(settings):
        paths = [f"calm.{path}" for path in found.paths]
        # A value that is not known yet cannot disagree with another one.
        if not any(_overlap(path, other) for path in paths for other in spoilt):
            source = next((known[path] for path in paths if path in known), f"host {host}")
            problems.append(Problem(path=paths[0], message=found.message, source=source))
    if problems:
        raise SettingsError(problems)
    return settings


def read(path: Path) -> Settings:
    """The settings in a JSON file, such as the agent's ``<root>/settings.json``; or ``SettingsError``."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([_unreadable(path, f"cannot be read: {error.strerror}")]) from None
    except ValueError as error:
        raise SettingsError([_unreadable(path, f"is not JSON: {error}")]) from None
    return load([Layer(source=str(path), data=data)], host="this host")


def _unreadable(path: Path, message: str) -> Problem:
    return Problem(path="calm", message=f"the file {message}", source=str(path))


def _merged(layers: Sequence[Layer]) -> tuple[dict[str, Any], Origins, list[Problem]]:
    data: dict[str, Any] = {}
    origins: Origins = {}
    problems: list[Problem] = []
    for layer in layers:
        if not isinstance(layer.data, Mapping):
            problems.append(_no_mapping(layer))
            continue
        data, touched = _over(data, layer.data, ())
        origins.update(dict.fromkeys(touched, layer.source))
    return data, origins, problems


def _no_mapping(layer: Layer) -> Problem:
    message = f"must be a mapping of settings, not {type(layer.data).__name__}"
    return Problem(path="calm", message=message, source=layer.source)


def _over(lower: Any, upper: Any, place: Location) -> tuple[Any, list[Location]]:
    """``upper`` merged over ``lower`` at ``place``, and every place that ``upper`` touches."""
    lower, upper = _prepared(lower, upper, place)
    if not isinstance(upper, Mapping):
        return upper, [place]
    out = dict(lower) if isinstance(lower, Mapping) else {}
    touched = [place]
    for key, value in upper.items():
        out[key], below = _over(out.get(key), value, (*place, key))
        touched += below
    return out, touched


def _prepared(lower: Any, upper: Any, place: Location) -> tuple[Any, Any]:
    """The two places where merging key by key would not say what people mean.

    A job that says when replaces the layer below in that; a rule's short form is its key ``do``.
    """
    if place[:2] == ("schedules", "jobs") and len(place) == 3 and isinstance(upper, Mapping):
        if isinstance(lower, Mapping) and any(upper.get(key) is not None for key in TRIGGERS):
            lower = {key: value for key, value in lower.items() if key not in TRIGGERS}
    elif place[:2] == ("healing", "rules") and len(place) == 3:
        lower, upper = ({"do": rule} if isinstance(rule, str) else rule for rule in (lower, upper))
    return lower, upper


def _validated(data: Mapping[str, Any]) -> tuple[Settings, list[tuple[Location, Any]]]:
    """The settings, and what was wrong with ``data``; wrong values have been left at their defaults."""
    wrong: list[tuple[Location, Any]] = []
    while True:
        try:
            return Settings.model_validate(data), wrong
        except ValidationError as error:
            found = [(place_of(item), item) for item in error.errors()]
            # What is wrong now only because a wrong value has gone is not worth a word.
            wrong += [
                new for new in found if not any(_overlap(dotted(new[0]), dotted(old)) for old, _ in wrong)
            ]
            data = _without(data, [place for place, _ in found])


def _without(data: Mapping[str, Any], places: Sequence[Location]) -> dict[str, Any]:
    for place in places:
        left = _removed(data, place)
        # An earlier place may have taken this one along.
        data = data if left is _GONE else left
    return dict(data)


def _removed(data: Any, place: Location) -> Any:
    """``data`` without what stands at ``place``, or without the nearest thing around it that can go."""
    key, *rest = place or ("",)
    if not isinstance(data, Mapping) or key not in data:
        return _GONE
    inner = _removed(data[key], tuple(rest)) if rest else _GONE
    others = {name: value for name, value in data.items() if name != key}
    return others if inner is _GONE else {**others, key: inner}


_GONE: Any = object()


def _source(place: Location, origins: Origins) -> str:
    return next((origins[part] for part in _prefixes(place) if part in origins), "")


def _prefixes(place: Location) -> Iterator[Location]:
    """``place`` and all that it lies in, the nearest first."""
    return (place[:length] for length in range(len(place), -1, -1))


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
