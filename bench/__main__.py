"""The short benchmarks, one after the other: ``python -m bench [--write]``, in about five minutes."""

from __future__ import annotations

import subprocess
import sys

SHORT = ("plan", "leaks", "reaction", "watching", "report_case")


def main() -> int:
    """Run each in a process of its own; the exit code is 1 if any failed."""
    codes = []
    for name in SHORT:
        print(f"\n== {name}", flush=True)
        codes.append(
            subprocess.run([sys.executable, "-m", f"bench.{name}", *sys.argv[1:]], check=False).returncode
        )
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
