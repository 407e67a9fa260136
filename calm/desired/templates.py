"""Everything that calm writes on a host is rendered from ``<checkout>/templates``.

A name that a template uses and nobody gives is an error, never an empty string.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from calm.settings.problems import Problem, SettingsError
from calm.settings.units import size_text

if TYPE_CHECKING:
    from jinja2 import Environment


_ALWAYS = ("docker/docker-compose.yml.j2", "docker/redis.conf.j2", "app/app.yaml.j2")


class TemplateError(SettingsError):
    """A template that cannot be found or rendered. It is part of the checkout, so it counts as settings.

    ``hint`` says what to do, the file and, where it is known, the line with it.
    """

    def __init__(self, name: str, message: str, *, line: int | None = None) -> None:
        super().__init__([Problem(path=f"templates/{name}", message=message)])
        where = f"templates/{name}" + (f", line {line}," if line else "")
        self.hint = f"Correct {where} in the checkout; `git diff templates` shows what was changed there."


def render(name: str, **values: Any) -> str:
    """The text of ``templates/<name>`` with ``values`` in it.

    Beside Jinja's own filters there are ``json`` (a value as JSON, which YAML reads, too), ``compose``
    (likewise, with each ``$`` doubled, which Compose would take for a variable), ``size`` (bytes as ``512M``)
    and ``seconds`` (``10s``).

    Raises:
        TemplateError: it is missing, is no template, or uses a name that is not in ``values``.
    """
    from jinja2 import TemplateError as Broken

    try:
        return _environment(checkout()).get_template(name).render(**values)
    except Broken as error:
        raise TemplateError(name, f"{type(error).__name__}: {error}", line=_line(error, name)) from error


def parsed(rendered: str) -> Any:
    """What a rendered YAML text means. By libyaml, ten times as fast, where PyYAML was built with it."""
    import yaml

    return yaml.load(rendered, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _line(error: Exception, name: str) -> int | None:
    """The last line of the template that the error came through."""
    lines = [getattr(error, "lineno", None)]
    lines += [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename.endswith(name)]
    return lines[-1]


def prepare() -> None:
    """Compile the templates that every host needs: something to do while the first one is being asked.

    What is wrong with one is said where it is rendered.
    """
    from jinja2 import TemplateError as Broken

    with suppress(Broken, SettingsError):
        for name in _ALWAYS:
            _environment(checkout()).get_template(name)


def checkout() -> Path:
    """The folder with ``deploy.py`` and ``templates/``: the current folder's nearest parent, or this file's.

    Raises:
        SettingsError: there is none.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / "deploy.py").is_file() and (folder / "templates").is_dir():
                return folder
    raise SettingsError(
        [Problem(path="templates/", message="there is no checkout: no folder above has deploy.py in it")]
    )


def compose_text(value: str) -> str:
    """``value`` so that Compose reads it back as it is: ``$`` begins a variable there."""
    return value.replace("$", "$$")


@cache
def _environment(folder: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(folder / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["json"] = _json
    environment.filters["compose"] = lambda value: _json(compose_text(str(value)))
    environment.filters["size"] = size_text
    environment.filters["seconds"] = lambda seconds: f"{seconds:g}s"
    return environment


def _json(value: Any) -> str:
    # A name that is not defined raises jinja2.UndefinedError as soon as it is made text of.
    return json.dumps(value, ensure_ascii=False, default=str)
