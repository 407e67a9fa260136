"""The commands that measure: ``calm bench`` and ``calm llm``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from calm.cli.bench_options import (
    AS_JSON,
    DURATION,
    PICTURE,
    RUN_OPTIONS,
    SETTINGS,
    THRESHOLD,
    WORK_OPTIONS,
    with_options,
)
from calm.cli.errors import CommandError
from calm.cli.exits import Exit
from calm.cli.host import Host


@click.group(epilog="Examples: calm bench quick · calm bench compare yesterday last")
def bench() -> None:
    """Measure the language model, the agent API and this machine, and compare two measurements."""


@click.group(epilog='Example: calm llm ask "안녕하세요"')
def llm() -> None:
    """The client that obeys app.yaml."""


COMMANDS: tuple[click.Command, ...] = (bench, llm)


@bench.command(epilog="Examples: calm bench quick · calm bench quick --concurrency 8 --requests 40 --json")
@with_options(*WORK_OPTIONS, *RUN_OPTIONS)
def quick(**given: Any) -> int:
    """Measure the language model and the agent API: short prompts, answered as they stream.

    Exit codes: 0 all requests succeeded · 1 some did not (see --tolerate), or there was nothing to measure.
    """
    from calm.cli.measuring import measured

    return measured("quick", given)


@bench.command(epilog="Examples: calm bench full · calm bench full --duration 60")
@with_options(DURATION, *WORK_OPTIONS, *RUN_OPTIONS)
def full(**given: Any) -> int:
    """Measure the same, and the machine beside it every 5 seconds for the duration."""
    from calm.cli.measuring import measured

    return measured("full", given)


@bench.command(epilog="Example: calm bench continuous --duration 3600")
@with_options(DURATION, *RUN_OPTIONS)
def continuous(**given: Any) -> int:
    """Measure the machine alone: CPU, memory, disk and processes every 5 seconds for the duration."""
    from calm.cli.measuring import measured

    return measured("continuous", given)


@bench.command(
    epilog="Examples: calm bench compare before last · calm bench compare a.json b.json --threshold 3%"
)
@click.argument("old")
@click.argument("new")
@with_options(THRESHOLD, SETTINGS, PICTURE, AS_JSON)
def compare(
    old: str, new: str, threshold: float, file: str | None, picture: Path | None, as_json: bool
) -> int:
    """A verdict per metric: improved, regressed, unchanged or not significant. OLD and NEW are files,
    names of baselines, or "last".

    Exit codes: 0 nothing regressed · 1 they cannot be compared · 6 something regressed.
    """
    from calm.bench import compare as comparing
    from calm.bench import files
    from calm.bench.shown import comparison_lines

    root = Host(file).root
    try:
        documents = {name: files.find(root, name) for name in (old, new)}
        found = comparing.compare(documents[old], documents[new], threshold=threshold)
    except (files.FileError, comparing.CompareError) as error:
        raise CommandError(str(error)) from None
    for line in [json.dumps(found.to_json())] if as_json else comparison_lines(found):
        click.echo(line)
    if picture:
        from calm.cli.measuring import drawn

        drawn(picture, documents)
    return Exit.REGRESSED if found.regressed else Exit.OK


@bench.group(epilog="Examples: calm bench baseline save before · calm bench baseline list")
def baseline() -> None:
    """Named measurements to compare with."""


@baseline.command(
    name="save",
    epilog="Examples: calm bench baseline save before · calm bench baseline save before a.json b.json",
)
@click.argument("name")
@click.argument("sources", nargs=-1, metavar="[FILE]…")
@with_options(SETTINGS)
def baseline_save(name: str, sources: tuple[str, ...], file: str | None) -> None:
    """Keep a measurement of at least three runs under NAME: the last one, or the FILEs together."""
    from calm.bench import files

    root = Host(file).root
    try:
        path = files.save(root, name, [files.find(root, source) for source in sources or ("last",)])
    except files.FileError as error:
        raise CommandError(str(error)) from None
    click.echo(f"saved {name} ({path})")


@baseline.command(name="list", epilog="Example: calm bench baseline list --json")
@with_options(SETTINGS, AS_JSON)
def baseline_list(file: str | None, as_json: bool) -> None:
    """The baselines: when, on what, how many runs."""
    from calm.bench import files
    from calm.bench.shown import baseline_document, baseline_line

    try:
        found = [baseline_document(name, kept) for name, kept in files.baselines(Host(file).root)]
    except files.FileError as error:
        raise CommandError(str(error)) from None
    if as_json:
        click.echo(json.dumps({"schema": 1, "baselines": found}))
        return
    for each in found:
        click.echo(baseline_line(each))
    if not found:
        click.echo("there is none yet: calm bench baseline save NAME keeps the last measurement")


@bench.command(epilog="Example: calm bench picture trend.svg --metric llm.ttft_ms")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="Such as llm.ttft_ms; without it the first token, speed and API.",
)
@with_options(SETTINGS)
def picture(path: Path, metrics: tuple[str, ...], file: str | None) -> None:
    """Draw metrics over all past runs of this host into PATH, an SVG or PNG."""
    from calm.bench import files
    from calm.bench import picture as drawing
    from calm.bench.compare import METRICS

    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise click.BadParameter(f"there is no metric {unknown[0]}; there are {', '.join(METRICS)}")
    wanted = metrics or ("llm.ttft_ms", "llm.output_tokens_per_s", "api.latency_ms")
    try:
        drawing.course(path, files.history(Host(file).root), wanted)
    except drawing.PictureError as error:
        raise CommandError(str(error)) from None
    click.echo(f"drew {path}")


@llm.command(epilog='Examples: calm llm ask "안녕하세요" · calm llm ask hello --json')
@click.argument("text")
@click.option("--max-tokens", type=click.IntRange(1), help="Longest answer, in tokens.")
@with_options(SETTINGS, AS_JSON)
def ask(text: str, max_tokens: int | None, file: str | None, as_json: bool) -> int:
    """Ask the chain of app.yaml: prints the answer, who gave it, and why the others did not."""
    from calm.cli.asking import asked

    host = Host(file)
    document = asked(host.settings, host.root, text, max_tokens=max_tokens)
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        for tried in document["tried"]:
            click.echo(f"calm: {tried['provider']} did not answer: {tried['says']}", err=True)
        if document["text"] is not None:
            click.echo(document["text"])
            by = f"{document['provider']} ({document['model']})"
            click.echo(f"calm: {by} answered after {document['seconds']:.1f} s", err=True)
        else:
            click.echo("calm: nobody answered. Is LM Studio's server on? See calm lmstudio status.", err=True)
    return Exit.FAILED if document["text"] is None else Exit.OK
