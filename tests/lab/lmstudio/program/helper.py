"""A child of the stand-in: an Electron helper or a node worker. It does what its parent says on stdin.

It ends when its parent's end of the pipe closes, as Electron's helpers do that lose their browser process.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path


class Habits:
    """What misbehaves in this process: a spinning thread, a growing heap. Quiet ones cost nothing."""

    def __init__(self) -> None:
        """Begin well behaved."""
        self._spin = self._work = False
        self._leak_mb_per_s = 0.0
        self._burning, self._growing = threading.Event(), threading.Event()
        self._hoard: list[bytearray] = []
        threading.Thread(target=self._burn, daemon=True).start()
        threading.Thread(target=self._grow, daemon=True).start()

    def set(self, **switches: object) -> None:
        """Take on new habits; unknown ones are somebody else's."""
        self._spin = bool(switches.get("spin", self._spin))
        self._work = bool(switches.get("work", self._work))
        self._leak_mb_per_s = float(str(switches.get("leak_mb_per_s", self._leak_mb_per_s)))
        (self._burning.set if self._spin or self._work else self._burning.clear)()
        (self._growing.set if self._leak_mb_per_s else self._growing.clear)()

    def _burn(self) -> None:
        while self._burning.wait():
            sum(range(2000))

    def _grow(self) -> None:
        while self._growing.wait():
            time.sleep(0.1)
            # Pages of zeros could be one shared page; each of these is the process's own.
            self._hoard.append(bytearray(os.urandom(4096)) * int(self._leak_mb_per_s * 25.6))


def owner_gone(owner: dict[str, object]) -> bool:
    """Whether the test run that installed the stand-in has ended: then nothing of it may stay."""
    if not Path("/proc/self").is_dir():
        return False
    try:
        stat = Path(f"/proc/{owner['pid']}/stat").read_text()
        return stat.rsplit(")", 1)[1].split()[19] != owner["started"]
    except OSError:
        return True


def main() -> None:
    """Obey lines of JSON on stdin until it closes."""
    owner, habits = json.loads(os.environ["LAB_OWNER"]), Habits()
    child = os.environ.pop("LAB_CHILD", "")
    if child:
        # On Linux a renderer is forked by the zygote, so it is the root's grandchild.
        subprocess.Popen([sys.executable, sys.argv[0], *json.loads(child)], stdin=subprocess.PIPE)
    buffer = b""
    while not owner_gone(owner):
        if not select.select([0], [], [], 1.0)[0]:
            continue
        more = os.read(0, 65536)
        if not more and "--stray" not in sys.argv:
            return
        if not more:
            time.sleep(1)
        *lines, buffer = (buffer + more).split(b"\n")
        for line in lines:
            habits.set(**json.loads(line))


if __name__ == "__main__":
    main()
