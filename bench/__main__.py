"""The short benchmarks: ``python -m bench [--write]``, in about ten minutes on a machine that is free."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from bench import results

ALONE = (("plan",), ("cold_start",), ("leaks",), ("reaction", "10"), ("tuned",))
"""Measured by the clock, so one after the other."""

TOGETHER = (("watching",), ("report_case",))
"""Measured by the kernel's counters of their own processes, so both at once: they mostly wait."""


LONG = (("delay",), ("fleet",), ("growth",))
"""With real hosts of their own, one after the other; they write their results themselves."""


def main() -> int:
    """Run each in a process of its own; the exit code is 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the results into bench/README.md")
    parser.add_argument("--all", action="store_true", help="also those with hosts over SSH")
    chosen = parser.parse_args()
    write = chosen.write
    good = [_told(command, _started(command), write=write) for command in ALONE]
    running = [(command, _started(command)) for command in TOGETHER]
    good += [_told(command, process, write=write) for command, process in running]
    for command in LONG if chosen.all else ():
        long = (*command, "--write") if write else command
        good.append(_told(command, _started(long), write=False))
    return int(not all(good))


def _started(command: Sequence[str]) -> subprocess.Popen[str]:
    name, *arguments = command
    argv = [sys.executable, "-m", f"bench.{name}", *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def _told(command: Sequence[str], process: subprocess.Popen[str], *, write: bool) -> bool:
    """Print what a benchmark says as soon as it has ended; whether it ended well."""
    said = process.communicate()[0].strip()
    print(f"== {' '.join(command)}\n{said}\n", flush=True)
    if write and process.returncode == 0:
        results.put(command[0], said if said.startswith("|") else f"```\n{said}\n```", command)
    return process.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
