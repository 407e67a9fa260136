"""What the environment says; secrets come from files."""

import os
import sys
from pathlib import Path


def text(name: str, default: str) -> str:
    """An environment variable; one that is empty counts as not set."""
    return os.environ.get(name) or default


def number(name: str, default: int) -> int:
    """A whole number above 0; anything else ends the program with a plain message."""
    value = text(name, str(default))
    if not value.isdecimal() or int(value) == 0:
        sys.exit(f"{name} must be a whole number above 0, not {value!r}")
    return int(value)


def secret(name: str) -> str:
    """A secret's present value, "" if there is none: the file NAME_FILE, else /run/secrets/name, else NAME.

    Read anew each time, so that a rotated password holds for the next connection; OSError if it cannot be.
    """
    file = Path(text(f"{name}_FILE", f"/run/secrets/{name.lower()}"))
    named = f"{name}_FILE" in os.environ or file.exists()
    return file.read_text().strip() if named else os.environ.get(name, "")
