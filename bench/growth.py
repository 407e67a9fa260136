"""What a plan costs as a fleet grows: ``python -m bench.growth [--hosts 8] [--write]``.

Real hosts with systemd, sshd and an engine of their own, converged before, as far as this machine holds them;
beyond that pyinfra's own fake connector, whose hosts answer at once what a real one has answered. So the fake
ones show what the controller does, and the real ones what their own work on the same two cores adds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import lab, results
from calm.drift.host import request
from calm.onhost import script
from calm.settings import Settings
from tests.fleet.machines import SETTINGS, Fleet
from tests.integration.stack import CHECKOUT
from tests.lab import hosts
from tests.operations.fleet import PROBE

REAL = (1, 2, 4, 8)
FAKE = (1, 8, 64, 256)
PICTURE = Path(__file__).with_name("growth.svg")

_TURNS = 3
_MIB = 1024
_COUNTING = """
import sys
from calm.cli.main import run
from pyinfra.connectors.fake import FakeConnector
from pyinfra.connectors.ssh import SSHConnector
said = []
def counted(connector):
    ran = connector.run_shell_command
    def count(self, command, *arguments, **options):
        said.append(command)
        return ran(self, command, *arguments, **options)
    connector.run_shell_command = count
counted(FakeConnector), counted(SSHConnector)
code = run(["plan", *sys.argv[1:]])
print(f"commands {len(said)}")
sys.exit(code)
"""
"""Runs plan with pyinfra's ways to a host counted."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one plan over so many hosts took: seconds, also of the processor, peak KiB, commands."""

    kind: str
    number: int
    seconds: float
    processor: float
    kib: int
    commands: int


def measure(most: int, picture: Path | None) -> str:
    """The costs as a table; with ``picture`` drawn there, too."""
    real, answer = _real(most)
    costs = [*real, *(_fake(number, answer) for number in FAKE)]
    if picture is not None:
        _draw(costs, picture)
    return f"{_table(costs)}\n\n{_growth(costs)}"


def _table(costs: Sequence[Cost]) -> str:
    head = ("a plan", "hosts", f"median of {_TURNS}", "processor time", "peak memory", "commands per host")
    return results.table(head, [_row(cost) for cost in costs])


def _row(cost: Cost) -> tuple[str, ...]:
    return (
        f"{cost.kind} hosts",
        str(cost.number),
        f"{cost.seconds:.2f} s",
        f"{cost.processor:.2f} s",
        f"{cost.kib / _MIB:.0f} MiB",
        f"{cost.commands / cost.number:g}",
    )


def _growth(costs: Sequence[Cost]) -> str:
    """What each further fake host adds, over the first and over the second half of the way."""
    parts = []
    fake = [cost for cost in costs if cost.kind == "fake"]
    for one, other in ((fake[0], fake[-2]), fake[-2:]):
        more = other.number - one.number
        seconds, kib = (other.processor - one.processor) / more, (other.kib - one.kib) / more
        parts.append(
            f"From {one.number} to {other.number} fake hosts each further one adds "
            f"{1000 * seconds:.1f} ms of processor time and {kib / _MIB:.2f} MiB"
        )
    return f"{'. '.join(parts)}."


def _real(most: int) -> tuple[list[Cost], str]:
    """The costs at real hosts, and what one of them answers to the probe."""
    with lab.fleet("growth", most) as fleet:
        numbers = [number for number in REAL if number <= most]
        costs = [_at("real", number, _limited(fleet, number), fleet.environment()) for number in numbers]
        return costs, _answer(next(iter(fleet.whole.values())))


def _limited(fleet: Fleet, number: int) -> list[str]:
    chosen = list(fleet.whole)[:number]
    return [str(fleet.inventory), *(part for name in chosen for part in ("--limit", name))]


def _answer(host: hosts.Host) -> str:
    asked = request(Settings.model_validate(SETTINGS), digest_key="00")
    return host.run("python3", "-I", "-S", "-", stdin=script("probe", asked)).stdout.strip()


def _fake(number: int, answer: str) -> Cost:
    data = {"fake_delay": 0, "fake_delay_jitter": 0, "calm": SETTINGS}
    with tempfile.TemporaryDirectory(prefix="calm-bench-growth-") as folder:
        inventory = Path(folder, "fakes.py")
        inventory.write_text(
            f"data = {data!r} | {{'fake_responses': {{{PROBE!r}: {answer!r}}}}}\n"
            f"hosts = [(f'@fake/host-{{index}}', data) for index in range({number})]\n"
        )
        return _at("fake", number, [str(inventory)], {**os.environ, "NO_COLOR": "1"})


def _at(kind: str, number: int, arguments: Sequence[str], environment: Mapping[str, str]) -> Cost:
    plan = [str(Path(sys.executable).parent / "calm"), "plan", *arguments]
    taken = [_taken(plan, environment) for _ in range(_TURNS + 1)][1:]  # the first is for the file cache
    counted = subprocess.run(
        [sys.executable, "-c", _COUNTING, *arguments], **_quiet(environment), capture_output=True, text=True
    )
    return Cost(
        kind=kind,
        number=number,
        seconds=statistics.median(seconds for seconds, _, _ in taken),
        processor=statistics.median(processor for _, processor, _ in taken),
        kib=max(kib for _, _, kib in taken),
        commands=int(counted.stdout.rpartition("commands ")[2]),
    )


def _taken(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float, int]:
    """Seconds, those of the processor, and peak resident memory in KiB of a run that had nothing to do."""
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(argv, **_quiet(environment), stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            raise RuntimeError(f"plan ended with {process.returncode}: {said.read()[-2000:]}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss


def _quiet(environment: Mapping[str, str]) -> dict[str, Any]:
    return {"cwd": CHECKOUT, "env": dict(environment), "stdin": subprocess.DEVNULL}


def _draw(costs: Sequence[Cost], picture: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "calm"
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for kind, marker in (("real", "o"), ("fake", "s")):
        of_kind = [cost for cost in costs if cost.kind == kind]
        numbers = [cost.number for cost in of_kind]
        style = {"marker": marker, "label": f"{kind} hosts"}
        time_axes.plot(numbers, [cost.seconds for cost in of_kind], **style)
        memory_axes.plot(numbers, [cost.kib / _MIB for cost in of_kind], **style)
    for axes, what in ((time_axes, "seconds of a plan"), (memory_axes, "peak memory, MiB")):
        axes.set(xscale="log", xlabel="hosts", ylabel=what, ylim=(0, None))
        axes.set_xticks([1, 2, 4, 8, 64, 256], labels=["1", "2", "4", "8", "64", "256"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    time_axes.legend(frameon=False)
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--hosts", type=int, default=REAL[-1])
    given, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    picture = PICTURE if "--write" in rest else None
    chosen = ("--hosts", str(given.hosts)) if given.hosts != REAL[-1] else ()
    results.main("growth", __doc__, lambda: measure(given.hosts, picture), arguments=chosen)
