"""Performs a benchmark: its samples go into the journal, and on a terminal a bar shows how far it is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calm.bench import report, run
from calm.bench.kept import Kept
from calm.bench.model import Sample
from calm.bench.run import Job

NAMES = {"llm": "language model", "api": "agent API", "machine": "machine"}


def perform(
    job: Job, root: Path, fingerprint: Mapping[str, Any], *, notice: Callable[[str], None]
) -> dict[str, Any]:
    """The document of a performed job; what has finished is in the journal even if this is killed."""
    about = {"id": uuid.uuid4().hex, "mode": job.mode}
    with Kept(root / "journal.db", about, notice=notice) as kept, _bar(job.expected) as advance:

        def tell(part: str, sample: Sample | Mapping[str, Any]) -> None:
            kept.add(part, sample.to_json() if isinstance(sample, Sample) else sample)
            advance(part)

        document = report.document(run.perform(job, tell), fingerprint) | {"id": about["id"]}
        kept.finish(job.mode, document)
    return document


@contextmanager
def _bar(expected: Mapping[str, int]) -> Iterator[Callable[[str], None]]:
    """A bar per part on standard error, if that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:
        bars = {part: progress.add_task(NAMES[part], total=total) for part, total in expected.items()}
        yield lambda part: progress.advance(bars[part]) if part in bars else None
