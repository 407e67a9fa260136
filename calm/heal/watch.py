"""``calm watch``: a sampler and Docker's events feed one loop, which judges and acts.

The sampler has a thread of its own, so a slow end point keeps no event waiting. Spans are measured by the
monotonic clock. What breaks (the engine, the event stream, the journal's disk) is told once, and the loop
goes on.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from calm.heal.actions import HostActs
from calm.heal.clock import Clock
from calm.heal.events import Event, Stream, unhealthy
from calm.heal.healer import Healer, Report
from calm.heal.model import Remedy
from calm.heal.once import Pace, open_journal, survey_junk
from calm.heal.view import Junk
from calm.health.model import Snapshot
from calm.health.parallel import Workers
from calm.health.snapshot import take
from calm.journal import HOUR, Journal, JournalError
from calm.outputs import Outputs

if TYPE_CHECKING:
    from calm.settings import Settings

_WAKE, _WAKE_TO_SETTLE = 30.0, 0.5
"""Seconds to wait at most for something to happen; less while an act has yet to show whether it helped."""

_SURVEY = 6 * HOUR
_FRESH = 120.0
"""Seconds within which the last journalled snapshot still counts: a restart forgets no idleness."""

Item = Snapshot | Event | Junk | Exception | None


class Watch:
    """The daemon of one host. :meth:`run` blocks; :meth:`stop` may be called from anywhere."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        notice: Callable[[str], None],
        tell: Callable[[Remedy], None],
        interval: float | None = None,
        only: str | None = None,
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``notice`` is told alerts and troubles, ``tell`` every remedy; ``interval`` overrides both."""
        pace = pace or Pace()
        self._settings, self._root, self._only = settings, root, only
        self._interval = interval or settings.healing.interval
        self._docker_interval = interval or settings.healing.docker_interval
        self._notice, self._tell, self._clock = notice, tell, clock or Clock()
        # A simple queue: a signal handler may put into it while the loop takes from it.
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._complaints: set[str] = set()
        self._journal = open_journal(root, notice)
        self._healer = Healer(
            settings,
            root,
            HostActs(settings, root, pace.patience),
            journal=self._journal,
            clock=self._clock,
            notice=notice,
            resident=True,
            young=pace.young,
        )
        self._outputs: Outputs | None = None
        self._stream = Stream(settings, self._queue.put, notice)
        self._workers = Workers()
        self._tidied = self._swept = -HOUR

    def stop(self) -> None:
        """End :meth:`run` after what it is doing right now."""
        self._stopping.set()
        self._queue.put(None)

    def run(self, *, seconds: float | None = None) -> frozenset[str]:
        """Watch until :meth:`stop`, or for ``seconds``; what is in quarantine at the end."""
        self._on_signals()
        before = self._recall()
        threads: list[threading.Thread] = [
            threading.Thread(target=self._sample, args=(before,), name="sampler", daemon=True)
        ]
        if self._settings.docker.enabled is not False and self._only != "lmstudio":
            threads.append(self._stream)
        for thread in threads:
            thread.start()
        try:
            self._loop(None if seconds is None else time.monotonic() + seconds)
        finally:
            self._stopping.set()
            self._stream.close()
            self._workers.close()
            self._close()
        return self._healer.quarantined

    # -- inside --------------------------------------------------------------------------------------------

    def _loop(self, deadline: float | None) -> None:
        while not self._stopping.is_set():
            wait = _WAKE_TO_SETTLE if self._healer.waiting else _WAKE
            if deadline is not None:
                wait = min(wait, deadline - time.monotonic())
            if wait <= 0:
                return
            with suppress(queue.Empty):
                self._take(self._queue.get(timeout=wait))
            for remedy in self._healer.settle():
                self._tell(remedy)

    def _take(self, item: Item) -> None:
        match item:
            case Snapshot():
                self._on_snapshot(item)
            case Event():
                self._on_event(item)
            case Junk():
                self._healer.junk = item
            case Exception():
                raise item

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        self._healer.add(snapshot)
        self._keep(snapshot)
        sweep = time.monotonic() - self._swept >= self._docker_interval - self._interval / 2
        if sweep:
            self._swept = time.monotonic()
        self._told(self._healer.heal(only=self._only, without=() if sweep else ("docker",)))

    def _on_event(self, event: Event) -> None:
        if event.kind == "oom":
            self._healer.ooms[event.name] = event.at
        finding = unhealthy(event, self._settings)
        if finding is not None and self._only in (None, "docker", finding.target, event.name):
            self._told(self._healer.heal_now(finding))

    def _told(self, report: Report) -> None:
        for remedy in report.remedies:
            # What is put off or in quarantine is so at every look; alerts come once and then every hour.
            if remedy.result in ("done", "failed"):
                self._tell(remedy)

    def _keep(self, snapshot: Snapshot) -> None:
        """Journal and files. A full disk or a broken file is told once, and again after it was well."""
        if self._journal is None:
            self._journal = open_journal(self._root, lambda said: self._complain("journal", said))
            if self._journal is not None:
                self._healer.use(self._journal)
        text = snapshot.to_text()
        if self._journal is not None:
            self._guarded("journal", lambda: self._journalled(self._journal, snapshot.taken_at, text))
        self._guarded("outputs", lambda: self._written(snapshot, text))

    def _journalled(self, journal: Journal | None, at: float, text: str) -> None:
        if journal is None:
            return
        journal.add_sample(at, text)
        if time.monotonic() - self._tidied >= HOUR:
            self._tidied = time.monotonic()
            journal.prune()

    def _written(self, snapshot: Snapshot, text: str) -> None:
        if self._outputs is None:
            self._outputs = Outputs(self._root / "outputs", self._settings.docker.project)
        self._outputs.write(snapshot, text)

    def _guarded(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except (JournalError, OSError) as error:
            self._complain(what, str(error))
        else:
            if what in self._complaints:
                self._complaints.discard(what)
                self._notice(f"{what}: can be written again")

    def _complain(self, what: str, said: str) -> None:
        if what not in self._complaints:
            self._complaints.add(what)
            self._notice(f"{said}. Watching goes on without it.")

    def _recall(self) -> Snapshot | None:
        """Take up where the agent before has left off; its last snapshot, if it is fresh."""
        if self._journal is None:
            return None
        try:
            window = self._settings.healing.rules.lmstudio_leaking.window
            self._healer.recall(seconds=max(window, HOUR))
            last = deque(self._journal.samples(since=time.time() - _FRESH), maxlen=1)
            return Snapshot.from_json(last[0]) if last else None
        except (JournalError, ValueError) as error:
            self._complain("journal", str(error))
            return None

    def _sample(self, before: Snapshot | None) -> None:
        """The sampler's thread. A bug in it ends the watch, rather than leave it blind."""
        try:
            self._sample_on(before)
        except Exception as error:
            self._queue.put(error)

    def _sample_on(self, before: Snapshot | None) -> None:
        """One snapshot per interval; a late one puts off the next instead of doubling it."""
        surveyed, workers = -_SURVEY, self._workers
        while not self._stopping.is_set():
            began = time.monotonic()
            before = take(
                self._settings, previous=before, unchanged=self._stream.unchanged_since, workers=workers
            )
            self._queue.put(before)
            if self._only != "lmstudio" and began - surveyed >= _SURVEY and before.docker.reachable:
                surveyed = began
                if (junk := survey_junk(self._settings, self._root)) is not None:
                    self._queue.put(junk)
            self._stopping.wait(max(0.0, self._interval - (time.monotonic() - began)))

    def _on_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_: self.stop())

    def _close(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        if self._journal is not None:
            self._journal.close()
