"""What ``calm bench quick``, ``full`` and ``continuous`` do with their options."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from calm.bench import files, picture, report, targets
from calm.bench.fingerprint import fingerprint
from calm.bench.model import PROMPTS, Workload
from calm.bench.run import Job
from calm.bench.shown import document_lines
from calm.cli.errors import CommandError
from calm.cli.exits import Exit
from calm.cli.host import Host
from calm.cli.progress import perform


def measured(mode: str, given: Mapping[str, Any]) -> int:
    """Measure, keep, show; the exit code."""
    host, began = Host(given["file"]), time.monotonic()
    job = _job(mode, host, given)
    made_on = fingerprint(host.settings, job.workload, job.target, host=given["with_host"])
    job = _with_own_figures(job, made_on)
    document = perform(job, host.root, made_on, notice=notice)
    out = given["out"] or files.default_path(host.root, document["started_at"])
    try:
        files.write(out, document)
    except files.FileError as error:
        raise CommandError(str(error)) from None
    _shown(document, out, as_json=given["as_json"])
    if given["picture"]:
        drawn(given["picture"], {mode: document})
    code = _code(report.failures(document), given.get("tolerate", 0.0))
    return host.noted(f"bench {mode}", began, code)


def _job(mode: str, host: Host, given: Mapping[str, Any]) -> Job:
    duration = given.get("duration")
    if mode == "continuous":
        return Job(mode=mode, root=host.root, machine=duration)
    only, model = given["only"], given["model"]
    target = (
        None
        if only == "api"
        else targets.llm(host.settings, host.root, endpoint=given["endpoint"], model=model)
    )
    api = None if only == "llm" else given["api_url"] or targets.api(host.settings)
    for url in (target.url if target else None, api):
        if url is not None and not re.match(r"https?://[^/\s]+", url):
            raise click.BadParameter(f"{url!r} is no URL: write http://127.0.0.1:1234/v1/chat/completions")
    if target is None and api is None and mode == "full":
        notice("neither a language model nor an agent API was found; the machine alone is measured")
    elif target is None and api is None:
        raise CommandError(
            "there is nothing to measure: neither a language model nor an agent API was found",
            hint="Name one: --endpoint http://127.0.0.1:1234/v1/chat/completions, --api-url http://127.0.0.1:5000",
        )
    return Job(
        mode=mode, root=host.root, workload=_workload(given), target=target, api=api, machine=duration,
        limits=given["limits"],
    )  # fmt: skip


def _workload(given: Mapping[str, Any]) -> Workload:
    prompts = given["prompts"] or PROMPTS
    names = ("runs", "warmup", "concurrency", "rate", "arrivals", "max_tokens", "temperature", "timeout")
    requests = given["requests"] or max(len(prompts), given["concurrency"])
    return Workload(prompts=prompts, requests=requests, **{name: given[name] for name in names})


def _with_own_figures(job: Job, made_on: Mapping[str, Any]) -> Job:
    if job.target is None or (made_on["server"] or {}).get("kind") != "lmstudio":
        return job
    return replace(job, own=targets.own_figures(job.target))


def _shown(document: Mapping[str, Any], out: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        for line in document_lines(document):
            click.echo(line)
    click.echo(f"calm: written to {out}", err=True)


def _code(failed: Mapping[str, tuple[int, int]], tolerated: float) -> Exit:
    for part, (count, requests) in failed.items():
        notice(f"{part}: {count} of {requests} requests failed")
    beyond = any(count > tolerated * requests or count == requests for count, requests in failed.values())
    return Exit.FAILED if beyond else Exit.OK


def drawn(path: Path, documents: Mapping[str, Mapping[str, Any]]) -> None:
    try:
        picture.distributions(path, documents)
    except picture.PictureError as error:
        raise CommandError(str(error)) from None
    notice(f"drew {path}")


def notice(said: str) -> None:
    click.echo(f"calm: {said}", err=True)
