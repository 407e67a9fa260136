"""Whole hosts that all tests of the fleet share, started once: three, or eight with CALM_FULL=1."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.machines import Fleet, start_all
from tests.lab import hosts
from tests.lab.engine import Engine

_WAYS: tuple[dict[str, Any], ...] = ({}, {"user": "ops", "_sudo": True}, {"user": "ops"})
"""How calm comes to a host: as root, as somebody who may become root, and as somebody with docker."""

NUMBER = 8 if os.environ.get("CALM_FULL") == "1" else 3
USERS = {f"gpu-{index + 1}": _WAYS[index % len(_WAYS)] for index in range(NUMBER)}

WATCH = """
import glob, time
seen, end = set(), time.time() + 120
with open("/tmp/seen", "wb", buffering=0) as file:
    while time.time() < end:
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                line = open(path, "rb").read() + b"\\n"
            except OSError:
                continue
            if line not in seen:
                seen.add(line)
                file.write(line)
        time.sleep(0.1)
"""
"""Notes every command line that there is for two minutes."""


@pytest.fixture(scope="package")
def machines(
    engine: Engine, host_key: Path, unique_name: Callable[[str], str]
) -> Iterator[dict[str, hosts.Host]]:
    """The whole hosts, bare but for the images, by the names in the inventory."""
    names = {name: unique_name(name) for name in USERS}
    try:
        yield start_all(engine, names, key=host_key, deadline_s=60 + 20 * NUMBER)
    finally:
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda name: hosts.destroy(engine, name), names.values()))


@pytest.fixture(scope="package")
def fleet(machines: dict[str, hosts.Host], host_key: Path, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """An inventory of the whole hosts."""
    whole = Fleet(folder=tmp_path_factory.mktemp("fleet"), key=host_key, whole=machines)
    for name, how in USERS.items():
        whole.add(name, machines[name].address, **how)
    return whole


@pytest.fixture(scope="package", autouse=True)
def converged(fleet: Fleet) -> dict[str, Any]:
    """Every host converged from bare by one apply, with an eye on every command line of the first."""
    first = fleet.whole["gpu-1"]
    first.engine.docker("exec", "-d", first.name, "python3", "-c", WATCH)
    return fleet.apply()
