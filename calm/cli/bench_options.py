"""The options of ``calm bench`` and what they take."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from calm.bench.model import Limits


def _seconds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:  # noqa: ARG001
    from calm.settings.units import duration_seconds

    if value is None:
        return None
    try:
        seconds = duration_seconds(float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if seconds <= 0:
        raise click.BadParameter("must be more than 0 seconds")
    return seconds


def _share(ctx: click.Context, parameter: click.Parameter, value: str) -> float:  # noqa: ARG001
    """``5%`` or ``0.05``."""
    number = value.removesuffix("%")
    if not re.fullmatch(r"\d+(\.\d+)?", number):
        raise click.BadParameter(f"{value!r} is no share: write 5% or 0.05")
    share = float(number) / (100 if value.endswith("%") else 1)
    if share > 1:
        raise click.BadParameter(f"{value!r} is more than all: write 5% or 0.05")
    return share


def _limits(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> Limits:  # noqa: ARG001
    """``ttft=500``, ``token=50``, ``latency=3000``, in milliseconds."""
    from calm.bench.model import Limits

    names = {"ttft": "ttft_ms", "token": "inter_token_ms", "latency": "latency_ms"}
    found: dict[str, float] = {}
    for each in value:
        name, _, figure = each.partition("=")
        if name not in names or not re.fullmatch(r"\d+(\.\d+)?", figure):
            raise click.BadParameter(f"{each!r}: write ttft=500, token=50 or latency=3000 (milliseconds)")
        found[names[name]] = float(figure)
    return Limits(**found)


def _prompts(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Any, ...] | None:  # noqa: ARG001
    """A prompt per line; ``.json``: a list of texts; ``.jsonl``: a text or ``{"prompt": …}`` per line."""
    if value is None:
        return None
    try:
        entries = _entries(Path(value))
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{value} cannot be read: {error}") from None
    prompts = tuple(each.get("prompt") if isinstance(each, dict) else each for each in entries)
    if not prompts or not all(isinstance(prompt, str) and prompt for prompt in prompts):
        raise click.BadParameter(f"{value} holds no list of prompts")
    return prompts


def _entries(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        whole = json.loads(text)
        return whole if isinstance(whole, list) else []
    lines = [line for line in text.splitlines() if line.strip()]
    return [json.loads(line) for line in lines] if path.suffix == ".jsonl" else list(lines)


SETTINGS = click.option("--settings", "file", type=click.Path(dir_okay=False), help="Settings to use.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the JSON document.")
PICTURE = click.option(
    "--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw into this SVG or PNG."
)
THRESHOLD = click.option(
    "--threshold", callback=_share, default="5%", show_default=True, help="Least change that counts."
)
RUN_OPTIONS = (
    SETTINGS,
    click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File for the JSON."),
    PICTURE,
    click.option("--with-host", is_flag=True, help="Name this host in the file; left out else."),
    AS_JSON,
)
WORK_OPTIONS = (
    click.option("--only", type=click.Choice(["llm", "api"]), help="Measure this part alone."),
    click.option("--endpoint", metavar="URL", help="Chat end point; app.yaml's or LM Studio's else."),
    click.option("--model", help="Model; the loaded one else."),
    click.option("--api-url", metavar="URL", help="Agent API; the stack's else."),
    click.option(
        "--prompts", callback=_prompts, metavar="FILE", help="Prompts; five short Korean ones else."
    ),
    click.option("--requests", type=click.IntRange(1), help="Requests per run; one per prompt else."),
    click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Runs."),
    click.option("--warmup", type=click.IntRange(1), default=1, show_default=True, help="Requests before."),
    click.option(
        "--concurrency", type=click.IntRange(1), default=1, show_default=True, help="Callers at once."
    ),
    click.option("--rate", type=click.FloatRange(0, min_open=True), help="Begin so many per second instead."),
    click.option(
        "--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", show_default=True
    ),
    click.option("--max-tokens", type=click.IntRange(1), default=100, show_default=True),
    click.option("--temperature", type=click.FloatRange(0), default=0.3, show_default=True),
    click.option("--timeout", callback=_seconds, default="120", show_default=True, help="Per request."),
    click.option(
        "--limit",
        "limits",
        multiple=True,
        callback=_limits,
        metavar="NAME=MS",
        help="For goodput: ttft, token, latency.",
    ),
    click.option(
        "--tolerate", callback=_share, default="0%", show_default=True, help="Requests that may fail."
    ),
)


def with_options(*options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


DURATION = click.option("--duration", callback=_seconds, default="300", show_default=True, help="Seconds.")
