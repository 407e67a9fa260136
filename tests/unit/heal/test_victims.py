"""No process table may make calm signal itself, its ancestors, a stranger or a number used again."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from calm.heal import victims
from calm.health.identity import Identity, trees
from calm.health.model import ProcessKey
from calm.health.processes import Process, lineage

IDENTITY = Identity(system="Linux", home="/home/ann/.lmstudio")
EXECUTABLES = st.sampled_from(
    [
        "/opt/LM Studio/lm-studio",
        "/home/ann/.lmstudio/llmster/0.0.15-2/llmster",
        "/home/ann/.lmstudio/.internal/utils/node",
        "/usr/bin/python3",
        "/bin/sh",
        "/home/ann/lm-studio",
        "/opt/LM Studio Tools/lm-studio",
        None,
    ]
)
ARGUMENTS = st.sampled_from(
    [(), ("--type=renderer",), ("/x/llmworker.js",), ("-c", "/opt/LM Studio/lm-studio"), ("LM Studio",)]
)


@st.composite
def tables(draw: st.DrawFn) -> list[Process]:
    """A process table: any parents (circles and parents long gone among them), any programs."""
    count = draw(st.integers(1, 14))
    return [
        Process(
            pid=pid,
            parent=draw(st.integers(0, count + 2)),
            created_at=float(draw(st.integers(0, 6))),
            name="x",
            executable=draw(EXECUTABLES),
            arguments=draw(ARGUMENTS),
        )
        for pid in range(1, count + 1)
    ]


def _all_keys(table: Sequence[Process]) -> list[ProcessKey]:
    return [process.key for process in table]


@settings(max_examples=400, deadline=None)
@given(table=tables(), me=st.integers(1, 14), data=st.data())
def test_nobody_else_is_ever_a_victim(table: list[Process], me: int, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(_all_keys(table)))
    guarded = victims.protected(table, me)
    chosen = victims.of_instance(table, key, IDENTITY, guarded)
    by_pid = {process.pid: process for process in table}
    ancestors = {each.pid for each in lineage(by_pid, by_pid[me])} if me in by_pid else set()
    assert {process.pid for process in chosen}.isdisjoint({me, *ancestors})
    assert all(IDENTITY.mine(process) for process in chosen)
    if chosen:
        assert chosen[0].key == key
        assert IDENTITY.is_root(chosen[0])


@settings(max_examples=200, deadline=None)
@given(table=tables(), data=st.data())
def test_a_number_used_again_is_nobody(table: list[Process], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(_all_keys(table)))
    later = ProcessKey(key.pid, key.created_at + 0.01)
    assert victims.of_instance(table, later, IDENTITY, ()) == ()


@settings(max_examples=200, deadline=None)
@given(table=tables())
def test_two_instances_never_share_a_victim(table: list[Process]) -> None:
    roots = [tree.root.key for tree in trees(table, IDENTITY).instances]
    chosen = [victims.of_instance(table, root, IDENTITY, ()) for root in roots]
    pids = [process.pid for members in chosen for process in members]
    assert len(pids) == len(set(pids))


def _process(pid: int, parent: int, executable: str, *arguments: str) -> Process:
    return Process(
        pid=pid, parent=parent, created_at=float(pid), name="x", executable=executable, arguments=arguments
    )


def test_an_instance_that_calm_runs_inside_of_is_not_touched_at_all() -> None:
    table = [
        _process(1, 0, "/sbin/init"),
        _process(10, 1, "/opt/LM Studio/lm-studio"),
        _process(11, 10, "/opt/LM Studio/lm-studio", "--type=renderer"),
        _process(12, 10, "/bin/sh"),
        _process(13, 12, "/usr/bin/python3"),
    ]
    root = table[1].key
    assert len(victims.of_instance(table, root, IDENTITY, ())) == 2
    assert victims.of_instance(table, root, IDENTITY, victims.protected(table, 13)) == ()


def test_a_process_that_is_not_in_the_table_guards_itself() -> None:
    assert victims.protected([], 7) == {7}
