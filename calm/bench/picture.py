"""Draws distributions and the course of a metric over past runs, as SVG or PNG by the file's ending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from calm.bench.compare import METRICS, values

KINDS = (".svg", ".png", ".pdf")


class PictureError(Exception):
    """No picture could be drawn; the text says why and what to do."""


def distributions(path: Path, documents: Mapping[str, Mapping[str, Any]]) -> None:
    """Per metric, which part of the requests took up to which time; one line per named document."""
    shown = [metric for metric in METRICS if any(values(each, metric) for each in documents.values())]
    if not shown:
        raise PictureError("there is nothing to draw: no request succeeded")
    figure, axes = _canvas(path, len(shown))
    for axis, metric in zip(axes, shown, strict=True):
        for name, document in documents.items():
            figures = sorted(figure for run in values(document, metric) for figure in run)
            if figures:
                parts = [(place + 1) / len(figures) for place in range(len(figures))]
                axis.step(figures, parts, where="post", label=f"{name} ({len(figures)})")
        _labelled(axis, METRICS[metric][0], _unit(metric), "part of the requests")
    _saved(figure, path)


def course(path: Path, documents: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> None:
    """A metric over past runs: each document's middle run, and the best and worst around it."""
    shown = [metric for metric in metrics if any(values(each, metric) for each in documents)]
    if not shown:
        raise PictureError("there is nothing to draw: no past run has this metric")
    figure, axes = _canvas(path, len(shown))
    for axis, metric in zip(axes, shown, strict=True):
        points = [
            (datetime.fromtimestamp(each["started_at"]), sorted(sum(run) / len(run) for run in runs))
            for each in documents
            if (runs := values(each, metric))
        ]
        times = [when for when, _ in points]
        axis.plot(times, [means[len(means) // 2] for _, means in points], marker="o", label="middle run")
        axis.fill_between(
            times, [means[0] for _, means in points], [means[-1] for _, means in points], alpha=0.2
        )
        _labelled(axis, METRICS[metric][0], "", _unit(metric))
        axis.set_ylim(bottom=0)
        axis.tick_params(axis="x", labelrotation=30)
    _saved(figure, path)


def _canvas(path: Path, count: int) -> tuple[Any, list[Any]]:
    if path.suffix.lower() not in KINDS:
        raise PictureError(f"{path.name}: a picture ends in {', '.join(KINDS)}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PictureError("a picture needs matplotlib: pip install 'calm-stack[bench]'") from None
    columns = min(count, 2)
    figure = Figure(figsize=(5.5 * columns, 3.2 * -(-count // columns)), layout="constrained")
    return figure, [figure.add_subplot(-(-count // columns), columns, place + 1) for place in range(count)]


def _labelled(axis: Any, title: str, below: str, beside: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(below)
    axis.set_ylabel(beside)
    axis.grid(visible=True, alpha=0.3)
    axis.legend(fontsize=8)


def _unit(metric: str) -> str:
    return "ms" if metric.endswith("_ms") else "tokens/s"


def _saved(figure: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without the date that it was drawn on: pictures are kept beside their figures.
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise PictureError(f"{path} cannot be written: {error.strerror}") from None
