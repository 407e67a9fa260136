"""What is pushed to a host: one script that reads (``probe``) and one that writes (``effect``).

Like Ansible's modules they travel over stdin to ``python3 -I -`` with their request inside and answer with
one line of JSON, so that nothing passes through a shell or shows in argv. They need Python 3.9 and its
standard library alone. `script` and `parse` are the controller's side.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from functools import lru_cache
from typing import Any

OLDEST_PYTHON = (3, 9)
SCHEMA = 1

_FOLDER = os.path.dirname(os.path.abspath(__file__))

# Runs before anything that an old Python could not read, so it must stay plain enough for Python 2.
_BOOT = """\
import sys
if sys.version_info < {oldest!r}:
    print('{{"schema": 1, "error": "Python {wanted} or newer is needed there, and python3 is %d.%d"}}'
          % sys.version_info[:2])
    sys.exit(0)
import binascii, json, zlib
ModuleSpec = type(json.__spec__)  # importlib has it by name, and costs a host 5 ms
SOURCES = json.loads(zlib.decompress(binascii.a2b_base64({sources})))
class Bundle:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in SOURCES:
            return ModuleSpec(name, Bundle, is_package=not SOURCES[name])
    @staticmethod
    def create_module(spec):
        return None
    @staticmethod
    def exec_module(module):
        path = module.__name__.replace(".", "/") + ".py"
        exec(compile(SOURCES[module.__name__], path, "exec", dont_inherit=True), module.__dict__)
sys.meta_path.insert(0, Bundle)
"""

_BOOT_HERE = """\
import json, sys
sys.path.insert(0, {folder!r})
"""

_RUN = """\
from calm.onhost import {name}
code = {name}.main(json.loads({request}))
sys.stdout.flush()
sys.stderr.flush()
import os
os._exit(code)  # all is said; taking a Python apart costs as much as asking Docker
"""


def script(name: str, request: dict[str, Any], *, here: bool = False) -> str:
    """The text to hand to ``python3 -I -`` on stdin: ``name`` is ``probe`` or ``effect``.

    The request may hold secrets; so may the text, which therefore belongs into stdin and nowhere else. Where
    this very Python runs it ``here``, the modules need not travel: they lie on the disk, compiled.
    """
    if name not in ("probe", "effect"):
        raise ValueError(f"no such script: {name}")
    boot = _BOOT_HERE if here else _BOOT
    return (boot + _RUN).format(
        oldest=OLDEST_PYTHON,
        wanted=".".join(map(str, OLDEST_PYTHON)),
        sources="" if here else _sources(name),
        folder=os.path.dirname(os.path.dirname(_FOLDER)),
        name=name,
        request=ascii(json.dumps(request)),
    )


def parse(output: str) -> dict[str, Any]:
    """The answer of a script, which is its last line of JSON; a login's greeting before it does no harm.

    An answer may be ``{"schema": 1, "error": text}``. Raises ValueError, with what stood there, for none.
    """
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            return _checked(line)
    raise ValueError(f"the host gave no answer, but: {output.strip()[-300:] or 'nothing'}")


def _checked(line: str) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError:
        raise ValueError("the host's answer was cut off") from None
    if not isinstance(answer, dict) or answer.get("schema") != SCHEMA:
        raise ValueError("the host's answer is of another version of calm")
    return answer


@lru_cache(maxsize=2)
def _sources(name: str) -> str:
    """The modules of this package by name, the packages with none, as JSON, packed.

    Packed, a script is smaller than the 64 KiB of a pipe: it is handed over before the host begins to read.
    """
    found = {"calm": "", "calm.onhost": ""}
    for file in sorted(os.listdir(_FOLDER)):
        module, ending = os.path.splitext(file)
        if ending == ".py" and module != "__init__" and (name == "effect" or "effect" not in module):
            with open(os.path.join(_FOLDER, file), encoding="utf-8") as source:
                found[f"calm.onhost.{module}"] = source.read()
    return ascii(base64.b64encode(zlib.compress(json.dumps(found).encode(), 9)).decode())
