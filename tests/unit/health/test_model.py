"""The snapshot's JSON: as the contract has it, and back again."""

from __future__ import annotations

import json

import pytest

from calm.health.model import (
    Api,
    Container,
    Docker,
    Endpoint,
    Instance,
    LMStudio,
    LoadedModel,
    Machine,
    ProcessKey,
    Sample,
    Snapshot,
    Watched,
)

INSTANCE = Instance(
    root_pid=7,
    created_at=1.25,
    executable="/opt/LM Studio/lm-studio",
    processes=9,
    cpu_percent=12.5,
    uss_bytes=100,
    swap_bytes=None,
    busy=False,
    members=(ProcessKey(7, 1.25),),
)
CONTAINER = Container(
    name="agent-system-redis",
    service="redis",
    id="abc",
    state="running",
    health="healthy",
    restarts=0,
    oom_killed=False,
    cpu_percent=None,
    memory_bytes=1,
    memory_limit_bytes=2,
    cpus_limit=0.5,
)
SNAPSHOT = Snapshot(
    host="gpu-1",
    taken_at=1000.5,
    machine=Machine(cpu_count=2),
    lmstudio=LMStudio(
        installed=True,
        instances=(INSTANCE,),
        api=Api(reachable=True, port=1234, models_loaded=(LoadedModel(id="a:2", key="a", size_bytes=5),)),
    ),
    watched=(Watched(name="x", pid=1, created_at=2.0, executable=None, cpu_percent=None),),
    docker=Docker(reachable=True, version="26.1.5"),
    containers=(CONTAINER,),
    endpoints=(Endpoint(name="redis", url="redis://127.0.0.1:6379", ok=True, latency_ms=0.4, error=None),),
    cost_ms=12.0,
    sample=Sample(at=5.0, read_at=1000.5),
)

CONTRACT = {
    "": "schema host taken_at machine lmstudio watched docker containers endpoints cost_ms",
    "machine": "cpu_count cpu_percent memory_bytes memory_available_bytes swap_used_bytes disk_free_bytes "
    "disk_percent processes",
    "lmstudio": "installed instances api",
    "lmstudio.instances": "root_pid created_at executable processes cpu_percent uss_bytes swap_bytes busy",
    "lmstudio.api": "reachable port models_loaded",
    "docker": "reachable version",
    "containers": "name service id state health restarts oom_killed cpu_percent memory_bytes "
    "memory_limit_bytes cpus_limit",
    "endpoints": "name url ok latency_ms error",
}


@pytest.mark.parametrize("path", CONTRACT)
def test_every_key_of_the_contract_is_there(path: str) -> None:
    shown = SNAPSHOT.to_json()
    for part in filter(None, path.split(".")):
        shown = shown[part]
        shown = shown[0] if isinstance(shown, list) else shown

    assert set(CONTRACT[path].split()) <= set(shown)


def test_it_comes_back_from_json_as_it_was() -> None:
    again = Snapshot.from_json(json.loads(json.dumps(SNAPSHOT.to_json())))

    assert again == SNAPSHOT
    assert again.sample is None


def test_what_could_not_be_measured_stays_null() -> None:
    shown = Snapshot(host="a", taken_at=1.0).to_json()

    assert shown["machine"] is None
    assert shown["containers"] is None
    assert shown["lmstudio"]["api"]["models_loaded"] is None


def test_keys_of_a_newer_schema_are_passed_over() -> None:
    newer = SNAPSHOT.to_json() | {"schema": 2, "weather": "fair"}

    assert Snapshot.from_json(newer).lmstudio == SNAPSHOT.lmstudio


def test_what_is_no_snapshot_is_refused() -> None:
    with pytest.raises(ValueError, match="host"):
        Snapshot.from_json({"schema": 1})
