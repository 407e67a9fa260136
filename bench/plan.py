"""A plan with nothing to do, beside an empty pyinfra deploy: ``python -m bench.plan [--write]``.

Both on this machine, in turn, so that whatever else it does slows both. The stack is whole and running: three
containers whose files, fields and running values are all read and compared.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from bench import lab, results
from tests.integration.stack import CHECKOUT, Stack

_TURNS = 9
_BIN = Path(sys.executable).parent

_COUNTING = """
import sys
from calm.cli.main import run
from pyinfra.connectors.local import LocalConnector
ran, said = LocalConnector.run_shell_command, []
def counted(self, command, *arguments, **options):
    said.append(command)
    return ran(self, command, *arguments, **options)
LocalConnector.run_shell_command = counted
code = run(["plan", sys.argv[1]])
print(f"commands {len(said)}")
sys.exit(code)
"""
"""Runs plan with pyinfra's own way to a host counted; it is the only one."""


def measure() -> str:
    """The ratio and the commands, as a table."""
    with lab.lab_engine() as engine, lab.stack(engine, "plan") as stack:
        stack.apply()
        ours, empty = _timed(stack)
        commands = _commands(stack)
    ratios = [one / other for one, other in zip(ours, empty, strict=True)]
    rows = [
        ("empty pyinfra deploy", f"{statistics.median(empty):.2f} s", "1.00", "0"),
        (
            "calm plan, nothing to do",
            f"{statistics.median(ours):.2f} s",
            f"{statistics.median(ratios):.2f}",
            str(commands),
        ),
    ]
    head = ("this machine", f"median of {_TURNS}", "median ratio", "commands per host")
    spread = f"Ratios from {min(ratios):.2f} to {max(ratios):.2f}. Aims: a ratio of 1.5, two commands."
    return f"{results.table(head, rows)}\n\n{spread}"


def _timed(stack: Stack) -> tuple[list[float], list[float]]:
    (stack.folder / "empty").mkdir()
    (stack.folder / "empty" / "hosts.py").write_text("hosts = ['@local']\n")
    (stack.folder / "empty" / "deploy.py").write_text("")
    plan = (str(_BIN / "calm"), "plan", str(stack.inventory))
    empty = (str(_BIN / "pyinfra"), "-y", "hosts.py", "deploy.py")
    env = lab.environment(stack)

    def ours() -> float:
        return lab.seconds(plan, env, CHECKOUT)

    def theirs() -> float:
        return lab.seconds(empty, env, stack.folder / "empty")

    ours(), theirs()  # bytecode and file cache
    pairs = [(ours(), theirs()) for _ in range(_TURNS)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def _commands(stack: Stack) -> int:
    done = stack.run([sys.executable, "-c", _COUNTING, str(stack.inventory)])
    assert done.code == 0, done.said
    return int(done.out.rpartition("commands ")[2])


if __name__ == "__main__":
    results.main("plan", __doc__, measure)
