"""A host that pulls: from a repository to a converged host and a report, with nobody pushing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Build
from tests.integration.stack import CALM, CHECKOUT, Result, Stack

pytestmark = pytest.mark.engine

PARTS = ("calm", "facts", "operations", "templates", "stack", "deploy.py", "pyproject.toml")


@pytest.fixture(scope="module")
def stack(build: Build) -> Stack:
    return build("pull", docker={"enabled": False})


@pytest.fixture(scope="module")
def repository(stack: Stack) -> Path:
    """A repository with this checkout and an inventory for the test's host."""
    folder = stack.folder / "repository"
    folder.mkdir()
    for part in (*PARTS, "requirements-agent.lock"):
        source, target = CHECKOUT / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    _git(folder, "init", "-q")
    _commit(folder, stack)
    return folder


def _commit(repository: Path, stack: Stack) -> None:
    inventory = repository / "inventories" / "local.py"
    inventory.parent.mkdir(exist_ok=True)
    inventory.write_text(stack.inventory.read_text())
    _git(repository, "add", "-A")
    _git(repository, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "-m", "settings")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _pull(stack: Stack, url: object, *arguments: str) -> Result:
    argv = [*CALM, "pull", "--from", str(url), *arguments]
    return stack.run(argv, env={"CALM_ROOT": str(stack.root)})


def _report(stack: Stack) -> Any:
    return json.loads((stack.root / "outputs" / "pull.json").read_text())


def test_a_pull_converges_the_host_and_says_so(stack: Stack, repository: Path) -> None:
    result = _pull(stack, repository)
    assert result.code == 0, result.said
    assert (stack.root / "app.yaml").is_file()
    report = _report(stack)
    assert report["commit"] == _git(repository, "rev-parse", "HEAD")
    assert report["code"] == 0
    assert report["summary"]["create"] > 0
    assert stack.plan().code == 0


def test_the_next_pull_applies_what_was_pushed_and_undoes_what_was_edited(
    stack: Stack, repository: Path
) -> None:
    (stack.root / "pull" / "deploy.py").write_text("raise SystemExit(9)\n")
    (stack.root / "pull" / "stray.py").write_text("")
    stack.write(llm={"request_timeout": 20})
    _commit(repository, stack)
    assert _pull(stack, repository, "--jitter", "0.1").code == 0
    assert "20" in (stack.root / "app.yaml").read_text()
    assert not (stack.root / "pull" / "stray.py").exists()
    assert _report(stack)["summary"]["update"] > 0


def test_the_job_of_a_schedule_finds_its_folder_by_the_settings_there(stack: Stack, repository: Path) -> None:
    (stack.root / "outputs" / "pull.json").unlink()
    argv = [*CALM, "pull", "--from", str(repository), "--settings", str(stack.root / "settings.json")]
    result = stack.run(argv)
    assert result.code == 0, result.said
    assert _report(stack)["code"] == 0


def test_an_inventory_of_other_hosts_makes_nobody_converge_them(stack: Stack, repository: Path) -> None:
    (repository / "inventories" / "fleet.py").write_text("hosts = ['10.213.0.254', 'gpu-2']\n")
    _commit(repository, stack)
    result = _pull(stack, repository, "--inventory", "inventories/fleet.py")
    assert result.code == 3, result.said
    assert "@local matches no host" in result.err
    assert _report(stack)["code"] == 3


def test_status_shows_a_pull_that_failed(stack: Stack) -> None:
    result = _pull(stack, stack.folder / "nowhere")
    assert result.code == 1
    assert "git fetch failed" in result.err
    assert "Traceback" not in result.err
    status = stack.calm("status", "--json").json()["hosts"][0]
    assert status["pull"]["code"] == 1
    assert "calm pull ended with 1" in stack.calm("status").out
    assert stack.plan().code == 0, "nothing was changed"


@pytest.mark.parametrize("url", ["https://user:hunter2@localhost/calm.git", "--upload-pack=touch"])
def test_an_address_that_tells_or_does_too_much_is_refused(stack: Stack, url: str) -> None:
    result = stack.run([*CALM, "pull", f"--from={url}"], env={"CALM_ROOT": str(stack.root)})
    assert result.code == 1
    assert "hunter2" not in result.said
