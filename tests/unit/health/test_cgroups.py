"""Cgroup files of both versions, as the kernel lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from calm.health import cgroups

ID = "c0ffee" * 10

FIRST = {
    f"cpu/docker/{ID}/cpu.stat": "nr_periods 100\nnr_throttled 25\nthrottled_time 5\n",
    f"cpuacct/docker/{ID}/cpuacct.usage": "2500000000\n",
    f"memory/docker/{ID}/memory.usage_in_bytes": "1000\n",
    f"memory/docker/{ID}/memory.stat": "cache 500\ntotal_inactive_file 400\n",
    f"memory/docker/{ID}/memory.limit_in_bytes": "9223372036854771712\n",
    f"memory/docker/{ID}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    f"pids/docker/{ID}/pids.current": "7\n",
}
SCOPE = f"system.slice/docker-{ID}.scope"
SECOND = {
    f"{SCOPE}/cgroup.controllers": "cpu memory pids\n",
    f"{SCOPE}/cpu.stat": "usage_usec 2500000\nnr_periods 100\nnr_throttled 25\n",
    f"{SCOPE}/memory.current": "1000\n",
    f"{SCOPE}/memory.stat": "anon 600\ninactive_file 400\n",
    f"{SCOPE}/memory.max": "2048\n",
    f"{SCOPE}/memory.events": "low 0\noom 2\noom_kill 2\n",
    f"{SCOPE}/pids.current": "7\n",
}
FIRST_PROC = "\n".join(
    f"{n}:{c}:/docker/{ID}" for n, c in enumerate(["cpu,cpuacct", "memory", "pids", "name=systemd"])
)
# A container whose main process is systemd has moved it into a group below.
SECOND_PROC = f"0::/{SCOPE}/init.scope"


def lay(folder: Path, files: dict[str, str]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.mark.parametrize(
    ("files", "proc", "limit"), [(FIRST, FIRST_PROC, None), (SECOND, SECOND_PROC, 2048)], ids=["v1", "v2"]
)
def test_what_a_container_uses(tmp_path: Path, files: dict[str, str], proc: str, limit: int | None) -> None:
    root = lay(tmp_path / "cgroup", files)
    lay(tmp_path / "proc", {"42/cgroup": proc})

    where = cgroups.folders(42, ID, proc=tmp_path / "proc", root=root)

    assert cgroups.read(where) == cgroups.Usage(
        cpu_seconds=2.5,
        memory_bytes=600,
        memory_limit_bytes=limit,
        pids=7,
        oom_kills=2,
        periods=100,
        throttled_periods=25,
    )


@pytest.mark.parametrize(
    ("files", "proc", "spent"),
    [
        (FIRST, FIRST_PROC, {f"cpuacct/docker/{ID}/cpuacct.usage": "2600000000\n"}),
        (SECOND, SECOND_PROC, {f"{SCOPE}/cpu.stat": "usage_usec 2600000\n"}),
    ],
    ids=["v1", "v2"],
)
def test_one_that_has_used_no_processor_time_is_read_no_further(
    tmp_path: Path, files: dict[str, str], proc: str, spent: dict[str, str]
) -> None:
    root = lay(tmp_path / "cgroup", files)
    lay(tmp_path / "proc", {"42/cgroup": proc})
    where = cgroups.folders(42, ID, proc=tmp_path / "proc", root=root)
    before = cgroups.read(where)
    assert before is not None
    lay(root, {name: "8\n" for name in files if name.endswith("pids.current")})

    at_rest = cgroups.read(where, before)
    lay(root, spent)
    at_work = cgroups.read(where, before)

    assert at_rest is before
    assert at_work is not None
    assert (at_work.cpu_seconds, at_work.pids) == (2.6, 8)
    assert cgroups.read(dict.fromkeys(where, tmp_path / "gone"), before) is None


def test_a_process_of_the_same_number_in_another_machine_is_not_read(tmp_path: Path) -> None:
    lay(tmp_path / "proc", {"42/cgroup": "0::/user.slice/session-1.scope"})

    assert cgroups.folders(42, ID, proc=tmp_path / "proc", root=tmp_path) == {}
    assert cgroups.folders(43, ID, proc=tmp_path / "proc", root=tmp_path) == {}
    assert cgroups.read({}) is None


def test_files_that_are_gone_are_unknown_not_zero(tmp_path: Path) -> None:
    root = lay(tmp_path / "cgroup", {f"memory/docker/{ID}/memory.stat": ""})
    lay(tmp_path / "proc", {"42/cgroup": FIRST_PROC})

    used = cgroups.read(cgroups.folders(42, ID, proc=tmp_path / "proc", root=root))

    assert used == cgroups.Usage()
