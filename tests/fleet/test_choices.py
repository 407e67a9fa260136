"""What can be chosen for an apply to many hosts: a canary, the failed ones again, a plan from a file."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fleet.machines import Fleet, root_of

pytestmark = pytest.mark.host

LAST = "gpu-3"


def _document(fleet: Fleet, name: str) -> str:
    return f"{root_of(fleet, name)}/app.yaml"


@pytest.fixture(autouse=True)
def _drifted(fleet: Fleet) -> None:
    """Every host lacks a document."""
    for name in fleet.whole:
        fleet.whole[name].run("rm", "-rf", _document(fleet, name))


@pytest.fixture(scope="module", autouse=True)
def _mended(fleet: Fleet) -> Iterator[None]:
    """For the next module all is well again."""
    yield
    fleet.apply()


def _there(fleet: Fleet) -> list[str]:
    path = {name: _document(fleet, name) for name in fleet.whole}
    return [
        name
        for name, host in fleet.whole.items()
        if host.run("test", "-f", path[name], check=False).returncode == 0
    ]


def test_the_others_wait_for_the_canary_and_are_taken_up_again(fleet: Fleet) -> None:
    fleet.whole["gpu-1"].run("mkdir", _document(fleet, "gpu-1"))
    rows = fleet.apply("--canary", "1", code=1)
    assert rows["gpu-1"]["status"] == "failed"
    for name in list(fleet.whole)[1:]:
        assert (rows[name]["status"], rows[name]["error"]["code"]) == ("drifted", "canary")
    assert _there(fleet) == []

    fleet.whole["gpu-1"].run("rmdir", _document(fleet, "gpu-1"))
    again = fleet.apply("--retry-failed", "--canary", "1")
    assert [row["status"] for row in again.values()] == ["converged"] * len(fleet.whole)
    assert _there(fleet) == list(fleet.whole)

    nothing = fleet.calm("apply", "--yes", "--retry-failed")
    assert nothing.code == 0
    assert "left no host" in nothing.err


def test_a_plan_from_a_file_is_applied_exactly(fleet: Fleet) -> None:
    file = fleet.folder / "plan.json"
    fleet.rows("plan", "--out", str(file), code=2)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = fleet.whole["gpu-1"].run("cat", "/root/calm/secrets/redis_password").stdout.strip()
    assert secret not in file.read_text()

    fleet.whole["gpu-2"].run("sh", "-c", "echo '# moved' >> /root/calm/docker/redis.conf")
    rows = fleet.apply("--plan", str(file), code=1)
    assert {name for name, row in rows.items() if row["status"] == "converged"} == fleet.whole.keys() - {
        "gpu-2"
    }
    assert rows["gpu-2"]["status"] == "failed"
    assert rows["gpu-2"]["error"]["code"] == "moved"
    assert _there(fleet) == [name for name in fleet.whole if name != "gpu-2"]


def test_a_plan_file_wants_the_same_question(fleet: Fleet) -> None:
    file = fleet.folder / "plan.json"
    fleet.rows("plan", "--out", str(file), "--limit", LAST, code=2)
    kept: dict[str, Any] = json.loads(file.read_text())
    assert list(kept["marks"]) == [LAST]
    other = fleet.calm("apply", "--yes", "--plan", str(file), "--data", "docker.redis.memory=1G")
    assert other.code == 64
    assert "another --data" in other.err
    assert list(fleet.apply("--plan", str(file))) == [LAST]
    assert _there(fleet) == [LAST]
