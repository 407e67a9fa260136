"""Runs ``calm bench`` and ``calm llm`` as a person does, on a root of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from calm.cli import main

CODE = "import sys; from calm.cli.main import run; sys.exit(run(sys.argv[1:]))"
KEYS = ("GEMINI_API_KEY", "GEMINI_API_KEY_FILE", "LM_API_TOKEN")


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True, kw_only=True)
class Calm:
    """The command with its ``CALM_ROOT`` and an environment without the user's keys and home."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in KEYS}
        own = {"CALM_ROOT": self.root, "HOME": self.root.parent, "MPLCONFIGDIR": self.root}
        return kept | {name: str(path) for name, path in own.items()}

    def __call__(self, *arguments: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.environment, clear=True),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = main.run(arguments)
        assert "Traceback" not in err.getvalue()
        return Done(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())

    def json(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        done = self(*arguments, "--json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The command in a process of its own, which can be killed."""
        return subprocess.Popen([sys.executable, "-c", CODE, *arguments], env=self.environment)
