"""The lab's images, made from Debian packages, since there may be no image registry to pull from.

A base comes from debootstrap; the others are built on it from the folders in recipes/ and carry the official
names, so that calm's default settings run on them unchanged. Each is tagged by a hash of all that goes into
it and built again only when that changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from calm.desired import build
from tests.lab import debian
from tests.lab.engine import Engine, folder, locked
from tests.lab.errors import LabError

HERE = Path(__file__).parent
RECIPES = HERE / "recipes"
AGENT_API = HERE.parent.parent / "stack" / "agent_api"

SUITE = "bookworm"
BASE = "calm-lab/base"
BASE_PACKAGES = ("ca-certificates", "busybox")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PASSED_ON = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
)
"""What a build needs to know of how this machine reaches packages; a value is passed on only if it is set."""

ARCHIVE_KEPT_S = 6 * 3600


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image to build: the name it carries, the folder with its Dockerfile, the image it stands on."""

    name: str
    recipe: Path
    parent: str = BASE
    reads: tuple[tuple[str, Path], ...] = ()
    """Build contexts beside the recipe, by name."""
    within: tuple[str, Path] | None = None
    """A folder of the context that lies elsewhere: its path in the context, and where it lies."""


POSTGRES = Image(name="postgres:15-alpine", recipe=RECIPES / "postgres")
REDIS = Image(name="redis:7-alpine", recipe=RECIPES / "redis")
PYTHON = Image(
    name="python:3.12-slim", recipe=RECIPES / "python", reads=(("agent-api", AGENT_API / "requirements.txt"),)
)
NGINX = Image(name="nginx:alpine", recipe=RECIPES / "nginx")
API = Image(
    name="calm-test/agent-api:latest",
    recipe=AGENT_API,
    parent=PYTHON.name,
    within=("agent_api/llm", build.CLIENT),
)
HOST = Image(name="calm-test/host:latest", recipe=RECIPES / "host")

STACK = (POSTGRES, REDIS, PYTHON, NGINX, API)
"""What every test of a stack may count on; HOST is built when a test first asks for a host."""


def ensure(engine: Engine, *images: Image) -> list[str]:
    """Build those of `images` (parents first) that are missing or out of date; their names."""
    with locked("images"):
        hashes = _Hashes()
        built = [] if _has(engine, _tag("base", hashes[BASE])) else [_build_base(engine, hashes[BASE])]
        for image in images:
            if not _has(engine, _own_tag(image, hashes), image.name):
                _build(engine, image, hashes)
                built.append(image.name)
        return built


def ensure_api(engine: Engine) -> None:
    """Build the agent API alone, on an engine that gets its other images from a registry."""
    with locked("images"), _context(API) as context:
        engine.docker("build", "-q", *_build_arguments(), "-t", API.name, str(context), timeout_s=600)


def archive(engine: Engine, *images: Image) -> Path:
    """A file that `docker load` takes, with these images; made once for each state of them.

    It lies in the lab's folder under a hash of its contents, and hosts get it mounted.
    """
    ids = [engine.docker("image", "inspect", "-f", "{{.Id}}", image.name).stdout for image in images]
    file = folder() / "archives" / f"{hashlib.sha256(''.join(ids).encode()).hexdigest()[:16]}.tar"
    with locked("archives"):
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            _forget_archives(file.parent)
            part = file.with_suffix(".part")
            engine.docker("save", "-o", str(part), *(image.name for image in images))
            part.rename(file)
    return file


def _forget_archives(archives: Path) -> None:
    """Delete those that no host that is just starting can be about to mount."""
    for old in archives.iterdir():
        if time.time() - old.stat().st_mtime > ARCHIVE_KEPT_S:
            old.unlink()


class _Hashes(dict[str, str]):
    """What each image is made of, as a hash, by the image's name; a child's holds its parent's."""

    def __init__(self) -> None:
        certificates = CERTIFICATES.read_bytes() if CERTIFICATES.exists() else b""
        made_of = [SUITE, *BASE_PACKAGES, debian.mirror(), hashlib.sha256(certificates).hexdigest()]
        self[BASE] = _digest("\n".join(made_of).encode())

    def __missing__(self, name: str) -> str:
        image = next(known for known in (*STACK, HOST) if known.name == name)
        parts = [self[image.parent].encode()]
        within = [image.within[1]] if image.within else []
        for context in (image.recipe, *(path for _, path in image.reads), *within):
            parts += [part for file in _files(context) for part in (file.name.encode(), file.read_bytes())]
        self[name] = _digest(b"\0".join(parts))
        return self[name]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _files(context: Path) -> list[Path]:
    if context.is_file():
        return [context]
    found = (file for file in context.rglob("*") if file.is_file())
    return sorted(file for file in found if "__pycache__" not in file.parts and file.suffix != ".md")


def _tag(name: str, key: str) -> str:
    return f"calm-lab/{name}:{key}"


def _own_tag(image: Image, hashes: _Hashes) -> str:
    return _tag(image.recipe.name.replace("_", "-"), hashes[image.name])


def _has(engine: Engine, *tags: str) -> bool:
    """Whether all the tags are there and name one image."""
    seen = engine.docker("image", "inspect", "-f", "{{.Id}}", *tags, check=False)
    return seen.returncode == 0 and len(set(seen.stdout.split())) == 1


def _build(engine: Engine, image: Image, hashes: _Hashes) -> None:
    tag = _own_tag(image, hashes)
    contexts = [f"--build-context={name}={path.parent}" for name, path in image.reads]
    command = ["build", "-q", *_build_arguments(), *contexts, "-t", tag, "-t", image.name]
    with _context(image) as context:
        engine.docker(*command, str(context), timeout_s=600)
    _forget_older(engine, tag)


@contextmanager
def _context(image: Image) -> Iterator[Path]:
    """The folder to build from."""
    if image.within is None:
        yield image.recipe
        return
    path, source = image.within
    with tempfile.TemporaryDirectory(prefix="context-", dir=folder()) as scratch:
        context = Path(scratch, "context")
        no_bytecode = shutil.ignore_patterns("__pycache__")
        shutil.copytree(image.recipe, context, ignore=no_bytecode)
        shutil.copytree(source, context / path, ignore=no_bytecode)
        yield context


def _build_arguments() -> list[str]:
    return [f"--build-arg={name}" for name in PASSED_ON if os.environ.get(name)]


def _build_base(engine: Engine, key: str) -> str:
    """Make the base with debootstrap; it trusts the certificates that this machine trusts."""
    debian.ensure_debootstrap()
    tag = _tag("base", key)
    with tempfile.TemporaryDirectory(prefix="base-", dir=folder()) as scratch:
        root = Path(scratch, "root")
        include = f"--include={','.join(BASE_PACKAGES)}"
        _run(["debootstrap", "--variant=minbase", include, SUITE, str(root), debian.mirror()])
        if CERTIFICATES.exists():
            shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        packed = Path(scratch, "base.tar")
        _run(["tar", "-C", str(root), "--exclude=./var/cache/apt/archives/*.deb", "-cf", str(packed), "."])
        engine.docker("import", str(packed), tag)
    engine.docker("tag", tag, f"{BASE}:latest")
    _forget_older(engine, tag)
    return BASE


def _forget_older(engine: Engine, tag: str) -> None:
    repository = tag.partition(":")[0]
    for other in engine.lines("images", "--format", "{{.Repository}}:{{.Tag}}", repository):
        if other not in (tag, f"{BASE}:latest"):
            engine.docker("image", "rm", other, check=False)


def _run(command: list[str]) -> None:
    """Run a command; raise LabError with its last lines if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"{command[0]} failed:\n" + "\n".join(done.stdout.splitlines()[-15:]))
