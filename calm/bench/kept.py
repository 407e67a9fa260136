"""Puts finished samples into the journal while a benchmark runs, so that one that is killed has left them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from calm.journal import Journal, JournalError

EVERY_S = 1.0
"""A sample is on the disk after this time. A write for each would disturb what is measured."""

SAMPLES = "samples"
"""The mode under which parts of a run are in the journal; the whole run follows under its own."""


class Kept:
    """A writer in a thread of its own; a journal that cannot be written is said once and costs no figure."""

    def __init__(self, path: Path, run: Mapping[str, Any], *, notice: Callable[[str], None]) -> None:
        self._path, self._run, self._notice = path, dict(run), notice
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._whole: tuple[str, Mapping[str, Any]] | None = None
        self._thread = threading.Thread(target=self._work, name="bench-journal", daemon=True)

    def __enter__(self) -> Kept:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()

    def add(self, part: str, sample: Mapping[str, Any]) -> None:
        """Keep one finished sample of a part: llm, api, chat, machine."""
        self._queue.put({"part": part, **sample})

    def finish(self, mode: str, document: Mapping[str, Any]) -> None:
        """Keep the whole document when the samples are written."""
        self._whole = mode, document

    def _work(self) -> None:
        try:
            journal = Journal(self._path, notice=self._notice)
        except JournalError as error:
            self._notice(f"{error}; the benchmark goes on without it")
            return
        try:
            self._write(journal)
        except JournalError as error:
            self._notice(f"{error}; the benchmark goes on without it")
        finally:
            journal.close()

    def _write(self, journal: Journal) -> None:
        ended = False
        while not ended:
            batch, ended = self._batch()
            if batch:
                journal.add_bench(SAMPLES, self._run | {"samples": batch})
        if self._whole is not None:
            journal.add_bench(*self._whole)

    def _batch(self) -> tuple[list[dict[str, Any]], bool]:
        """What has come since the last one, after a first sample and the time that others have to join it."""
        first = self._queue.get()
        if first is None:
            return [], True
        batch, ends = [first], time.monotonic() + EVERY_S
        while (left := ends - time.monotonic()) > 0:
            try:
                sample = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if sample is None:
                return batch, True
            batch.append(sample)
        return batch, False
