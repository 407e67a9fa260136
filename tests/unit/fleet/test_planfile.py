"""A plan in a file: whole, without secrets, and only for what it was made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from calm.drift.model import Action, Change, HostDrift, Resource
from calm.fleet import planfile
from calm.fleet.board import Board, HostError, HostRun, Pass
from calm.fleet.targets import Target, overrides
from calm.fleet.work import Job, outcome

PASSWORD = Resource(
    id="secret:redis_password",
    kind="secret",
    action=Action.UPDATE,
    changes=(Change(path="value", before="old-secret", after="new-secret", sensitive=True),),
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    data = overrides(["docker.services.x.environment.API_KEY=data-secret", "docker.redis.memory=1G"])
    return Job(target=Target(inventory=tmp_path / "fleet.py", checkout=tmp_path, data=data))


@pytest.fixture
def file(tmp_path: Path, job: Job) -> Path:
    drift = HostDrift(resources=(PASSWORD,), left_out=(), notes=(), record={})
    runs = {"gpu-1": HostRun(name="gpu-1", digest_key="", drift=drift)}
    down = {"gpu-2": HostError(code="unreachable", message="No route to host.", hint="Check that it is up.")}
    passed = Pass(board=Board(hosts=runs), hosts=("gpu-1", "gpu-2"), unreachable=down)
    planfile.write(tmp_path / "plan.json", job, outcome("plan", passed, every=False))
    return tmp_path / "plan.json"


def test_it_is_for_its_owner_and_holds_no_secret(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert "secret:redis_password" in file.read_text()
    assert not [word for word in ("old-secret", "new-secret", "data-secret") if word in file.read_text()]


def test_it_is_about_the_hosts_that_could_be_planned(file: Path, job: Job) -> None:
    planned = planfile.read(file).job(job)
    assert planned.target.names == {"gpu-1"}
    assert planned.agreed is not None
    assert planned.agreed.exact


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"inventory": Path("other.py")}, "another inventory"),
        ({"data": {}}, "another --data: docker.redis.memory docker.services.x.environment.API_KEY"),
        ({"limit": ("gpu-1",)}, "leave out --limit"),
    ],
)
def test_it_is_refused_for_anything_else(file: Path, job: Job, change: dict[str, object], word: str) -> None:
    with pytest.raises(planfile.PlanFileError, match=word):
        planfile.read(file).job(replace(job, target=replace(job.target, **change)))


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"made_at": 1, "marks": []}'])
def test_what_is_no_plan_says_so(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "x").write_text(text)
    with pytest.raises(planfile.PlanFileError, match="cannot be read" if text is None else "no plan"):
        planfile.read(tmp_path / "x")
