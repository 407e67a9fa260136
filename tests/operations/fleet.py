"""Hosts that pyinfra's own fake connector plays: what they answer is in the inventory, nothing runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calm.drift.host import request
from calm.settings import Settings
from tests.unit.drift.states import absent, empty

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PROBE, EFFECT = "command -v python3", "python3 -I -"
SETTINGS = {"docker": {"enabled": False}, "agent": {"enabled": False}, "schedules": {"backend": "none"}}


def bare(**changes: Any) -> str:
    """The probe's answer on an empty host."""
    wanted = request(Settings.model_validate(SETTINGS), digest_key="00")
    files = {
        name: absent(f"/home/ada/calm/{spec['path']}", parent_exists=False)
        for name, spec in wanted["documents"].items()
    }
    return json.dumps(
        empty() | {"files": files, "lock": None, "host": empty()["host"] | {"now": 1.0}} | changes
    )


def results(status: str, message: str | None = None) -> dict[str, Any]:
    """What the effect script answers: one result."""
    answer = {
        "schema": 1,
        "results": [{"do": "write", "target": "x", "status": status, "message": message, "took_ms": 1}],
    }
    failed = status == "failed"
    return {"stdout": [json.dumps(answer)], "success": not failed, "stderr": [message] if failed else []}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def calm(folder: Path, hosts: Mapping[str, Mapping[str, Any]], *arguments: str) -> Ran:
    """Run ``calm`` over fake hosts: the answers by host name, then by a part of the command."""
    inventory = folder / "inventory.py"
    data = {
        f"@fake/{name}": {
            "fake_responses": dict(answers),
            "fake_delay": 0,
            "fake_delay_jitter": 0,
            "calm": SETTINGS,
        }
        for name, answers in hosts.items()
    }
    inventory.write_text(f"hosts = {list(data.items())!r}\n")
    command, *rest = arguments
    done = subprocess.run(
        [str(Path(sys.executable).parent / "calm"), command, str(inventory), *rest],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)
