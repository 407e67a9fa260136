"""A plan over a link with delay, beside pyinfra alone: ``python -m bench.delay [--write]``.

One real, converged host behind a link that adds 20 ms to every round trip. The three take turns, so that
whatever else this machine does slows all of them.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import lab, results
from bench.link import Link, link
from tests.fleet.machines import Fleet

SECONDS = 0.020
NOTHING, ONE, PLAN = "empty pyinfra deploy", "pyinfra, one command", "calm plan, nothing to do"

_BIN = Path(sys.executable).parent
_TURNS = 7


def measure() -> str:
    """The ratios and round trips, as a table."""
    with lab.fleet("delay", 1) as fleet:
        ((name, host),) = fleet.whole.items()
        with link(host.address, seconds=SECONDS) as far:
            fleet.add(name, "127.0.0.1", ssh_port=far.port)
            far.round_trips()  # ssh-keyscan's
            return _table(fleet, far)


def _table(fleet: Fleet, far: Link) -> str:
    argvs, environment = _argvs(fleet), fleet.environment() | {"PATH": os.environ["PATH"]}
    _forget(far, argvs, environment)
    took: dict[str, list[float]] = {what: [] for what in argvs}
    trips: dict[str, int] = {}
    for _ in range(_TURNS):
        for what, argv in argvs.items():
            took[what].append(lab.seconds(argv, environment))
            trips[what] = far.round_trips()
    return results.table(
        (
            f"{1000 * SECONDS:.0f} ms more per round trip",
            f"median of {_TURNS}",
            "median ratio",
            "round trips",
        ),
        [_row(what, took, trips[what]) for what in argvs],
    )


def _forget(far: Link, argvs: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> None:
    """Run each once, for bytecode and file cache."""
    for argv in argvs.values():
        lab.seconds(argv, environment)
        far.round_trips()


def _row(what: str, took: Mapping[str, Sequence[float]], trips: int) -> tuple[str, ...]:
    ratios = [one / other for one, other in zip(took[what], took[NOTHING], strict=True)]
    return what, f"{statistics.median(took[what]):.2f} s", f"{statistics.median(ratios):.2f}", str(trips)


def _argvs(fleet: Fleet) -> dict[str, list[str]]:
    ((name, given),) = fleet.data.items()
    data = {key: value for key, value in given.items() if key.startswith("ssh_")}
    inventory = fleet.folder / "far.py"
    inventory.write_text(f"hosts = {[(name, data)]!r}\n")
    empty, one = fleet.folder / "empty.py", fleet.folder / "one.py"
    empty.write_text("")
    one.write_text("from pyinfra.operations import server\nserver.shell(name='one', commands=['true'])\n")
    pyinfra = [str(_BIN / "pyinfra"), "-y", str(inventory)]
    return {
        NOTHING: [*pyinfra, str(empty)],
        ONE: [*pyinfra, str(one)],
        PLAN: [str(_BIN / "calm"), "plan", str(fleet.inventory)],
    }


if __name__ == "__main__":
    results.main("delay", __doc__, measure)
