"""Pydantic's errors as sentences for people, each with a "did you mean" where one is near."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from calm.settings import Settings
from calm.settings.problems import Problem
from calm.settings.secrets import looks_secret

Location = tuple[Any, ...]
"""A place in the tree: keys and list indices from below ``calm`` downwards."""

_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
}


def problem_of(error: Any, *, source: str) -> Problem:
    """One of ``ValidationError.errors()`` as a ``Problem``.

    A value is never shown where it may be a secret.
    """
    place = place_of(error)
    sentence = _MESSAGES.get(error["type"], _general)
    return Problem(
        path=dotted(place),
        message=sentence(error, place),
        source=source,
        suggestion=_suggestion(error, place),
    )


def place_of(error: Any) -> Location:
    """Where in the settings an error of ``ValidationError.errors()`` is.

    pydantic ends the place of a key that is wrong itself with ``[key]``; one that is merely unknown, and is
    called so, has no such end.
    """
    place: Location = tuple(error["loc"])
    return place[:-1] if place[-1:] == ("[key]",) and error["type"] != "extra_forbidden" else place


def dotted(place: Location) -> str:
    """``calm.llm.fallbacks[1].provider``."""
    return "calm" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)


def _choice(error: Any, place: Location) -> str:
    choices = ", ".join(_written(choice) for choice in _choices(_expected(error, place)))
    return f"must be one of {choices}{_not_this(error, place)}"


def _kind(error: Any, place: Location) -> str:
    return f"must be {_KINDS[error['type']]}{_not_this(error, place)}"


def _general(error: Any, place: Location) -> str:
    sentence: str = error["msg"].replace("Input should be", "must be")
    return sentence[:1].lower() + sentence[1:] + _not_this(error, place)


_MESSAGES: dict[str, Callable[[Any, Location], str]] = {
    "value_error": lambda error, _: str(error["ctx"]["error"]),
    "extra_forbidden": lambda _error, _place: "unknown key",
    "missing": lambda _error, _place: "is required",
    "literal_error": _choice,
    **dict.fromkeys(_KINDS, _kind),
}


def _not_this(error: Any, place: Location) -> str:
    value = error["input"]
    if place[:1] == ("secrets",) or any(looks_secret(str(part)) for part in place):
        return ""
    if isinstance(value, (dict, list, tuple, BaseModel)):
        return f", not a {'mapping' if isinstance(value, (dict, BaseModel)) else 'list'}"
    text = _written(value)
    return f", not {text}" if len(text) <= 60 else ""


def _written(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _suggestion(error: Any, place: Location) -> str | None:
    if error["type"] == "extra_forbidden":
        return _nearest(place[-1], list(_keys(_at(place[:-1]))))
    if error["type"] == "literal_error":
        return _nearest(error["input"], [str(choice) for choice in _choices(_expected(error, place))])
    return None


def _nearest(word: Any, words: list[str]) -> str | None:
    spellings = (str(word), str(word).replace("-", "_"), str(word).lower(), str(word).upper())
    near = (match for spelling in spellings for match in difflib.get_close_matches(spelling, words, n=1))
    return next(near, None)


def _expected(error: Any, place: Location) -> Any:
    """The annotation that the wrong value, or the wrong key of a mapping, should have followed."""
    if error["loc"][-1] == "[key]":
        return [get_args(mapping)[0] for mapping in _at(place[:-1]) if get_origin(mapping) is dict]
    return _at(place)


def _at(place: Location) -> list[Any]:
    """The types that may stand at ``place``, found by walking down the models."""
    found = list(plain(Settings))
    for part in place:
        found = [inner for outer in found for below in _below(outer, part) for inner in plain(below)]
    return found


def _below(outer: Any, part: Any) -> Iterator[Any]:
    if isinstance(outer, type) and issubclass(outer, BaseModel):
        yield from (
            field.annotation for name, field in outer.model_fields.items() if part in (name, field.alias)
        )
    elif get_origin(outer) is dict:
        yield get_args(outer)[1]
    elif get_origin(outer) is tuple:
        yield get_args(outer)[0]


def plain(annotation: Any) -> Iterator[Any]:
    """``annotation`` without ``Annotated``, and each member of a union by itself."""
    for member in members(annotation):
        if get_origin(member) is Annotated:
            yield from plain(get_args(member)[0])
        else:
            yield member


def members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else, itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _keys(found: list[Any]) -> Iterator[str]:
    for outer in found:
        if isinstance(outer, type) and issubclass(outer, BaseModel):
            yield from (field.alias or name for name, field in outer.model_fields.items())


def _choices(found: list[Any]) -> list[Any]:
    return [choice for member in found if get_origin(member) is Literal for choice in get_args(member)]
