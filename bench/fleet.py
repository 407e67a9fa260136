"""A fleet with nothing to do, beside Ansible and plain pyinfra: ``python -m bench.fleet [--write]``.

Real hosts with systemd, sshd and an engine of their own (``--hosts 8``; 3), converged before. They take
turns, so that whatever else this machine does slows all of them. An empty deploy of pyinfra is the floor: it
starts, logs in everywhere, and does nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from bench import lab, results
from tests.fleet.machines import Fleet, counted

PEERS = Path(__file__).with_name("peers")
CACHE = Path("~/.cache/calm-bench/ansible").expanduser()
DOCUMENTS = ("app.yaml", "settings.json", "docker/redis.conf", "docker/docker-compose.yml")
ANSIBLE = "ansible==12.*"

_BIN = Path(sys.executable).parent
_TURNS = 5


def measure(number: int) -> str:
    """Medians at one host and at ``number``, as a table."""
    with lab.fleet("fleet", number) as fleet:
        return _table(fleet, number)


def _table(fleet: Fleet, number: int) -> str:
    _render(fleet)
    commands = _argvs(fleet, number)
    environment = fleet.environment() | {
        "ANSIBLE_CONFIG": str(PEERS / "ansible.cfg"),
        "ANSIBLE_HOME": str(fleet.folder / "ansible"),
        "CALM_BENCH_RENDERED": str(fleet.folder / "rendered"),
        "PATH": os.environ["PATH"],
    }
    took = {count: _turns(_argvs(fleet, count), environment) for count in dict.fromkeys((1, number))}
    first = next(iter(fleet.whole.values()))
    cost = {
        name: counted(first, partial(lab.seconds, argv, environment))
        for name, argv in commands.items()
        if name != "Ansible"
    }
    cost["Ansible"] = _executions([*_argvs(fleet, 1)["Ansible"], "-vvv"], environment)
    rows = [(name, *_figures(name, took), str(cost[name])) for name in commands]
    head = ["nothing to do"]
    for count in took:
        head += [f"{count} host{'' if count == 1 else 's'}", "times calm"]
    return results.table([*head, "commands per host"], rows)


def _figures(name: str, took: Mapping[int, Mapping[str, Sequence[float]]]) -> list[str]:
    cells = []
    for times in took.values():
        ratios = [one / ours for one, ours in zip(times[name], times["calm plan"], strict=True)]
        cells += [f"{statistics.median(times[name]):.2f} s", f"{statistics.median(ratios):.1f}"]
    return cells


def _argvs(fleet: Fleet, count: int) -> dict[str, list[str]]:
    """The commands on the first ``count`` hosts."""
    chosen = list(fleet.whole)[:count]
    inventory = fleet.folder / f"peers-{count}.py"
    inventory.write_text(f"hosts = {[(name, _data(fleet, name)) for name in chosen]!r}\n")
    ini = fleet.folder / f"hosts-{count}.ini"
    ini.write_text("".join(_line(fleet, name) for name in chosen))
    limits = [part for name in chosen for part in ("--limit", name)]
    rendered = f"rendered={fleet.folder / 'rendered'}"
    empty = fleet.folder / "empty.py"
    empty.write_text("")
    pyinfra = [str(_BIN / "pyinfra"), "-y", str(inventory)]
    return {
        "empty pyinfra deploy": [*pyinfra, str(empty)],
        "calm plan": [str(_BIN / "calm"), "plan", str(fleet.inventory), *limits],
        "plain pyinfra": [*pyinfra, str(PEERS / "deploy.py")],
        "Ansible": [str(_ansible()), "-i", str(ini), "-e", rendered, str(PEERS / "playbook.yml")],
    }


def _data(fleet: Fleet, name: str) -> dict[str, object]:
    return {key: value for key, value in fleet.data[name].items() if key.startswith("ssh_")}


def _line(fleet: Fleet, name: str) -> str:
    data = fleet.data[name]
    known = f"-o UserKnownHostsFile={fleet.known_hosts}"
    return (
        f"{name} ansible_host={data['ssh_hostname']} ansible_user=root"
        f" ansible_ssh_private_key_file={fleet.key} ansible_ssh_common_args='{known}'\n"
    )


def _render(fleet: Fleet) -> None:
    """What calm has rendered is what the peers put there, so that they have nothing to do either."""
    folder = fleet.folder / "rendered"
    folder.mkdir()
    host = next(iter(fleet.whole.values()))
    for path in DOCUMENTS:
        (folder / Path(path).name).write_text(host.run("cat", f"/root/calm/{path}").stdout)


def _ansible() -> Path:
    """ansible-playbook, installed once below the cache."""
    program = CACHE / "bin" / "ansible-playbook"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(CACHE)], check=True)
        subprocess.run([str(CACHE / "bin" / "pip"), "install", "--quiet", ANSIBLE], check=True)
    return program


def _turns(argvs: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> dict[str, list[float]]:
    for argv in argvs.values():
        lab.seconds(argv, environment)  # bytecode and file cache
    took: dict[str, list[float]] = {name: [] for name in argvs}
    for _ in range(_TURNS):
        for name, argv in argvs.items():
            took[name].append(lab.seconds(argv, environment))
    return took


def _executions(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """How many commands Ansible says that it ran over SSH; over a kept connection sshd logs none."""
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return done.stdout.count("SSH: EXEC ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--hosts", type=int, default=3)
    given, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    chosen = ("--hosts", str(given.hosts)) if given.hosts != 3 else ()
    results.main("fleet", __doc__, lambda: measure(given.hosts), arguments=chosen)
