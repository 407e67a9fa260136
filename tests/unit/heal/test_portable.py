"""The agent imports and runs where there are no POSIX modules and no POSIX signals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import signal, sys
import psutil  # its part for this machine's system needs the modules; what is on top of it must not
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules[name] = None
for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGCHLD", "SIGALRM"):
    delattr(signal, name)
from calm.cli.main import run
codes = [
    run(["pause"]),
    run(["snapshot", "--json"]),
    run(["heal", "--json", "--burst", "0.5"]),
    run(["resume"]),
    run(["watch", "--interval", "1", "--for", "1.5"]),
    run(["journal"]),
    run(["check"]),
]
assert codes == [0] * 7, codes
assert not {"pyinfra", "jinja2"} & set(sys.modules)
"""


def test_the_agents_commands_run_without_posix(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"docker": {"enabled": false}, "lmstudio": {"enabled": false}}')
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"CALM_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_snapshot_and_help_do_not_pay_for_what_they_do_not_use() -> None:
    program = (
        "import sys\nfrom calm.cli.main import run\nrun(['heal', '--help'])\n"
        "heavy = {'pyinfra', 'jinja2', 'docker', 'httpx', 'psutil', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
