"""Which processes are LM Studio, on tables as the three systems give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calm.health.identity import Identity, known_as, trees
from calm.health.processes import Process
from tests.unit.health.tables import (
    AURA,
    LINUX,
    LINUX_APP,
    LINUX_LOOKS,
    LINUX_NODE,
    MAC_LOOKS,
    MACOS,
    WINDOWS,
    WINDOWS_LOOKS,
    Row,
    process,
    table,
)


@pytest.mark.parametrize(
    ("rows", "looks", "root", "members"),
    [
        (LINUX, LINUX_LOOKS, 100, set(range(100, 109))),
        (WINDOWS, WINDOWS_LOOKS, 1000, set(range(1000, 1006))),
        (MACOS, MAC_LOOKS, 500, set(range(500, 505))),
    ],
    ids=["linux", "windows", "macos"],
)
def test_an_instance_with_its_helpers_is_one(
    rows: list[Row], looks: Identity, root: int, members: set[int]
) -> None:
    found = trees(table(*rows), looks)

    assert [tree.root.pid for tree in found.instances] == [root]
    assert {each.pid for each in found.instances[0].members} == members
    assert found.instances[0].members[0].pid == root
    assert looks.home_of(found.instances[0]) == looks.home
    assert found.leftovers == ()


def test_two_instances_are_two_the_older_first() -> None:
    second = {"pid": 200, "parent": 1, "created_at": 50.0, "name": "lm-studio", "executable": LINUX_APP}
    helper = {**second, "pid": 201, "parent": 200, "created_at": 51.0, "arguments": ["--type=zygote"]}

    found = trees(table(*LINUX, second, helper), LINUX_LOOKS)

    assert [tree.root.pid for tree in found.instances] == [100, 200]
    assert [each.pid for each in found.instances[1].members] == [200, 201]


def test_the_headless_daemon_is_an_instance_with_its_workers() -> None:
    llmster = "/home/ann/.lmstudio/llmster/0.0.15-2/llmster"
    root = {"pid": 300, "parent": 1, "created_at": 5.0, "name": "llmster", "executable": llmster}
    script = "/home/ann/.lmstudio/llmster/0.0.15-2/.bundle/lib/llmworker.js"
    worker = {**root, "pid": 301, "parent": 300, "created_at": 6.0, "arguments": [script]}

    found = trees(table(root, worker), LINUX_LOOKS)

    assert [[each.pid for each in tree.members] for tree in found.instances] == [[300, 301]]
    assert LINUX_LOOKS.home_of(found.instances[0]) == "/home/ann/.lmstudio"
    assert LINUX_LOOKS.form(found.instances[0].root) == "llmster"
    assert LINUX_LOOKS.is_worker(process(**worker))


@pytest.mark.parametrize(
    "row",
    [
        {"name": "lm-studio", "executable": "/home/ann/bin/lm-studio"},
        {"name": "lm-studio", "executable": None},
        {"name": "bash", "executable": "/usr/bin/bash", "arguments": ["-c", "cd '/opt/LM Studio/lm-studio'"]},
        {"name": "vim", "executable": "/usr/bin/vim", "arguments": [LINUX_APP]},
        {"name": "electron", "executable": "/usr/lib/electron/electron"},
        {"name": "LM-Studio.AppImage", "executable": "/home/ann/LM-Studio.AppImage"},
    ],
    ids=["other path", "path unseen", "shell", "editor", "everybody's electron", "server of a mount"],
)
def test_what_is_not_lm_studio_is_left_alone(row: Row) -> None:
    looks = Identity(
        system="Linux",
        home="/home/ann/.lmstudio",
        installed=("/usr/lib/electron/electron", "/home/ann/LM-Studio.AppImage"),
    )

    found = trees(table({"pid": 7, "parent": 1, "created_at": 3.0, **row}), looks)

    assert found.instances == ()
    assert found.leftovers == ()


def test_what_it_has_started_of_others_is_not_its_own() -> None:
    browser = {
        "pid": 400,
        "parent": 100,
        "created_at": 60.0,
        "name": "firefox",
        "executable": "/usr/bin/firefox",
    }
    worker = {"pid": 401, "parent": 400, "created_at": 61.0, "name": "node", "executable": LINUX_NODE}

    members = trees(table(*LINUX, browser, worker), LINUX_LOOKS).instances[0].members

    assert 400 not in {each.pid for each in members}
    assert 401 in {each.pid for each in members}


def test_a_parent_younger_than_its_child_is_somebody_else() -> None:
    orphan = {"pid": 60, "parent": 100, "created_at": 2.0, "name": "lm-studio", "executable": LINUX_APP}

    found = trees(table(*LINUX, {**orphan, "arguments": ["--type=renderer"]}), LINUX_LOOKS)

    assert [each.pid for each in found.leftovers] == [60]
    assert 60 not in {each.pid for each in found.instances[0].members}


def test_helpers_and_workers_without_an_instance_are_left_over() -> None:
    rows = [row for row in LINUX if row["pid"] != 100]

    found = trees(table(*rows), LINUX_LOOKS)

    assert found.instances == ()
    assert {each.pid for each in found.leftovers} == set(range(101, 109))


def test_where_it_is_installed_is_known_from_its_own_file_and_the_settings() -> None:
    flatpak, nix = "/var/apps/lmstudio/bin/LM-Studio", "/nix/store/abc-lmstudio-0.4.7/bin/.wrapped"
    rows = [
        {"pid": 5, "parent": 1, "created_at": 1.0, "name": "a", "executable": flatpak},
        {"pid": 6, "parent": 1, "created_at": 2.0, "name": "b", "executable": nix},
    ]
    looks = Identity(
        system="Linux", installed=(flatpak,), executables=("/nix/store/*-lmstudio-*/bin/.wrapped",)
    )

    assert [tree.root.pid for tree in trees(table(*rows), looks).instances] == [5, 6]


def test_lm_support_is_asus_aura() -> None:
    aura = process(pid=1, parent=0, created_at=1.0, name="LM_Support.exe", executable=AURA)

    assert not WINDOWS_LOOKS.mine(aura)
    assert "ASUS" in (known_as("LM_Support.exe") or "")
    assert known_as("LM Studio.exe") is None


PATHS = st.sampled_from(
    [LINUX_APP, LINUX_NODE, "/usr/bin/bash", "/home/ann/lm-studio", "/home/ann/.lmstudio/bin/lms", None]
)
ARGUMENTS = st.lists(st.sampled_from(["--type=renderer", "/x/llmworker.js", LINUX_APP, "-c"]), max_size=2)
ROWS = st.builds(
    Process,
    pid=st.integers(1, 30),
    parent=st.integers(0, 30),
    created_at=st.floats(1, 100),
    name=st.just("any"),
    executable=PATHS,
    arguments=ARGUMENTS.map(tuple),
)


@given(st.lists(ROWS, max_size=30, unique_by=lambda row: row.pid))
def test_any_table_gives_disjoint_trees_of_lm_studio_alone(rows: list[Process]) -> None:
    found = trees(rows, LINUX_LOOKS)

    seen = [each.pid for tree in found.instances for each in tree.members]
    seen += [each.pid for each in found.leftovers]
    assert len(seen) == len(set(seen))
    for tree in found.instances:
        assert LINUX_LOOKS.is_root(tree.root)
        assert all(LINUX_LOOKS.mine(each) for each in tree.members)
        assert all(each.created_at >= tree.root.created_at for each in tree.members)
    alone = [each for each in rows if each.executable == LINUX_APP and LINUX_LOOKS.is_root(each)]
    assert {each.pid for each in alone} <= set(seen)
