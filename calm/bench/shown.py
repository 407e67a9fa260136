"""How measurements and comparisons look in a terminal. Pure: values in, lines out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from calm.bench import report
from calm.bench.compare import Comparison, Setting, Verdict

_HEAD = ("", "", "n", "mean", "p50", "p90", "p99", "min", "max")


def document_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """A table of what was measured, and what it says."""
    table = [_HEAD, *report.rows(document)]
    if len(table) > 1:
        yield from _aligned(table)
        yield ""
    yield from report.sentences(document)


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """A line per metric, then what makes them doubtful, what changed in between, and the whole verdict."""
    head = ("", "old", "new", "change", "95 % of it", "verdict")
    yield from _aligned([head, *(_row(each) for each in comparison.verdicts)])
    for note in dict.fromkeys(each.note for each in comparison.verdicts if each.note):
        yield f"Not significant: {note}."
    for warning in comparison.warnings:
        yield f"Note: {warning}."
    for setting in comparison.settings:
        yield f"Setting changed: {_setting(setting)}"
    yield _verdict(comparison)


def baseline_document(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """What ``calm bench baseline list --json`` has of one."""
    made_on = document["fingerprint"]
    return {
        "name": name,
        "started_at": document.get("started_at"),
        "mode": document.get("mode"),
        "runs": len(document.get("runs") or ()),
        "model": (made_on.get("model") or {}).get("id"),
        "workload": made_on.get("workload"),
        "settings_digest": (made_on.get("settings") or {}).get("digest"),
    }


def baseline_line(baseline: Mapping[str, Any]) -> str:
    """One baseline as ``calm bench baseline list`` shows it."""
    when = datetime.fromtimestamp(baseline["started_at"] or 0).strftime("%Y-%m-%d %H:%M")
    model = f", {baseline['model']}" if baseline["model"] else ""
    return f"{baseline['name']}: {baseline['mode']} of {when}, {baseline['runs']} runs{model}"


def _aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *others]).rstrip()


def _row(verdict: Verdict) -> tuple[str, ...]:
    bounds = "" if verdict.low is None else f"{_percent(verdict.low)} to {_percent(verdict.high)}"
    return (
        verdict.name,
        _figure(verdict, verdict.old),
        _figure(verdict, verdict.new),
        _percent(verdict.change),
        bounds,
        verdict.verdict,
    )


def _figure(verdict: Verdict, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if verdict.metric.endswith(".success") else f"{value:.4g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f} %"


def _setting(setting: Setting) -> str:
    return f"{setting.path}: {setting.old} → {setting.new}"


def _verdict(comparison: Comparison) -> str:
    worse = [each.name for each in comparison.verdicts if each.verdict == "regressed"]
    better = [each.name for each in comparison.verdicts if each.verdict == "improved"]
    if worse:
        changed = f" {len(comparison.settings)} settings changed in between." if comparison.settings else ""
        return f"Regressed: {', '.join(worse)}.{changed}"
    if better:
        return f"Improved: {', '.join(better)}. Nothing regressed."
    return f"No change beyond {100 * comparison.threshold:g} % that is significant."
