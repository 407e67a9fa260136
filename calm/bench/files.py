"""Documents on the disk: what a run leaves in ``<root>/outputs``, and named baselines."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calm.atomic import replace
from calm.bench.compare import LEAST_RUNS

OUTPUTS, BASELINES = "outputs", "outputs/baselines"
PATTERN = "performance_test_*.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class FileError(Exception):
    """A document cannot be read or written; the text says why and what to do."""


def default_path(root: Path, started_at: float) -> Path:
    """Where a run goes: ``<root>/outputs/performance_test_YYYYMMDD_HHMMSS.json``, in local time."""
    stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(started_at))
    return root / OUTPUTS / f"performance_test_{stamp}.json"


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document in one step; raises ``FileError``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}") from None


def read(path: Path) -> dict[str, Any]:
    """The document in a file; raises ``FileError`` if it is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise FileError(f"{path} is no benchmark: it is not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("fingerprint"), dict):
        raise FileError(f"{path} is no benchmark of calm bench")
    if document.get("schema") != 1:
        raise FileError(f"{path} has schema {document.get('schema')}; this calm knows 1")
    return document


def find(root: Path, name: str) -> dict[str, Any]:
    """The document that a name on the command line means: a file, a baseline, or ``last``."""
    if name == "last":
        return read(newest(root))
    path, baseline = Path(name), root / BASELINES / f"{name}.json"
    if path.is_file():
        return read(path)
    if _NAME.fullmatch(name) and baseline.is_file():
        return read(baseline)
    raise FileError(f"there is neither a file nor a baseline {name}: see calm bench baseline list")


def newest(root: Path) -> Path:
    """The last run; raises ``FileError`` if there was none."""
    runs = sorted((root / OUTPUTS).glob(PATTERN))
    if not runs:
        raise FileError(f"there is no run in {root / OUTPUTS} yet: calm bench quick makes one")
    return runs[-1]


def save(root: Path, name: str, documents: Sequence[Mapping[str, Any]]) -> Path:
    """Keep runs as a baseline; raises ``FileError`` if they are too few or did different work."""
    if not _NAME.fullmatch(name):
        raise FileError(f"{name!r} is no name for a baseline: letters, digits, ., _ and -, 64 at most")
    joined = join(documents)
    runs = len(joined["runs"])
    if runs < LEAST_RUNS:
        raise FileError(
            f"{runs} runs are too few for a baseline: it needs {LEAST_RUNS}."
            " Measure with --runs, or name several files."
        )
    path = root / BASELINES / f"{name}.json"
    write(path, joined)
    return path


def join(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several documents of the same work as one: the last one's, with the runs of all."""
    *earlier, last = documents
    workload = last["fingerprint"].get("workload")
    for other in earlier:
        if other["fingerprint"].get("workload") != workload:
            raise FileError("these files did different work and cannot be one baseline")
    return {**last, "runs": [run for document in documents for run in document.get("runs") or ()]}


def baselines(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """The baselines by name."""
    return [(path.stem, read(path)) for path in sorted((root / BASELINES).glob("*.json"))]


def history(root: Path) -> list[dict[str, Any]]:
    """All runs in the outputs folder, oldest first; files that are none are left out."""
    out = []
    for path in sorted((root / OUTPUTS).glob(PATTERN)):
        try:
            out.append(read(path))
        except FileError:
            continue
    return sorted(out, key=lambda document: document.get("started_at") or 0)
