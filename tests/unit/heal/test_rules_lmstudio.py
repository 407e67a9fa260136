from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from calm.heal import rules
from calm.heal.model import Finding
from calm.heal.rules_lmstudio import keeper, same_path
from calm.heal.view import Trace, View
from calm.health.model import Watched
from tests.unit.heal.made import MIB, NOW, instance, model, settings, snapshot, view


def _found(seen: View) -> list[Finding]:
    return list(rules.look(seen, "lmstudio"))


def _rules(seen: View) -> list[tuple[str, str, str | None]]:
    return [(finding.rule, finding.target, finding.action) for finding in _found(seen)]


@pytest.mark.parametrize(
    ("one", "other", "kept"),
    [
        ({}, {"serves_api": True}, 200),
        ({"named": True}, {"serves_api": True}, 200),
        ({}, {"named": True}, 200),
        ({}, {}, 100),
        ({"serves_api": None}, {"serves_api": False}, 100),
    ],
    ids=["port", "port before name", "name", "oldest", "unknown"],
)
def test_of_duplicates_the_one_with_the_port_stays_else_the_named_else_the_oldest(
    one: dict[str, Any], other: dict[str, Any], kept: int
) -> None:
    instances = (instance(100, **one), instance(200, **other))
    assert keeper(instances).root_pid == kept
    (finding,) = _found(view(snapshot(*instances)))
    assert (finding.rule, finding.action) == ("lmstudio-duplicated", "end")
    assert finding.target == f"lmstudio:{300 - kept}"
    assert finding.evidence["kept"] == kept


def test_every_extra_instance_is_found_and_they_share_a_budget() -> None:
    found = _found(view(snapshot(instance(1), instance(2), instance(3))))
    assert [finding.target for finding in found] == ["lmstudio:2", "lmstudio:3"]
    assert {finding.key for finding in found} == {"lmstudio"}


@pytest.mark.parametrize("busy", [True, None])
def test_busy_is_not_sick_and_unknown_is_not_idle(busy: bool | None) -> None:
    assert _rules(view(snapshot(instance(cpu_percent=800.0, busy=busy)))) == []


@pytest.mark.parametrize(("cpu", "sick"), [(79.9, False), (80.0, True), (None, False)])
def test_spinning_while_idle(cpu: float | None, sick: bool) -> None:
    assert bool(_rules(view(snapshot(instance(cpu_percent=cpu))))) is sick


def test_a_young_one_is_let_alone() -> None:
    young = instance(cpu_percent=300.0, created_at=NOW - 10)
    assert _rules(view(snapshot(young))) == []
    assert _rules(view(snapshot(young), young=5.0)) != []


def test_memory_leaves_out_the_loaded_models_and_is_only_reported() -> None:
    big = instance(uss_bytes=2500 * MIB, swap_bytes=600 * MIB)
    (finding,) = _found(
        view(snapshot(big, models=[model()]), made=settings(rules={"lmstudio-memory": "act"}))
    )
    assert (finding.rule, finding.mode, finding.action) == ("lmstudio-memory", "report", None)
    assert "2100 MB" in finding.evidence["says"]
    assert _rules(view(snapshot(big, models=[model(), model("b")]))) == []


@pytest.mark.parametrize("models", [None, [model(size_bytes=None)]], ids=["unasked", "size unknown"])
def test_memory_says_nothing_where_the_models_are_unknown(models: Any) -> None:
    assert _rules(view(snapshot(instance(uss_bytes=9000 * MIB), models=models))) == []


def _trail(per_second: float, models: tuple[str, ...] = ()) -> list[Trace]:
    key = (100, NOW - 3500)
    return [
        Trace(
            at=NOW - 1800 + at,
            memory={key: int(300 * MIB + per_second * at)},
            models=models if at < 1000 else (),
            restarts={},
        )
        for at in range(0, 1801, 30)
    ]


def test_a_leak_is_restarted_unless_it_serves() -> None:
    seen = view(snapshot(instance()), trail=_trail(MIB))
    (finding,) = _found(seen)
    assert (finding.rule, finding.action, finding.since) == ("lmstudio-leaking", "restart", NOW - 1800)
    assert "3600 MB an hour" in finding.evidence["says"]
    (busy,) = _found(view(snapshot(instance(busy=True)), trail=_trail(MIB)))
    assert busy.action is None


def test_a_growth_below_the_rules_figure_or_with_other_models_is_no_leak() -> None:
    assert _rules(view(snapshot(instance()), trail=_trail(MIB / 100))) == []
    assert _rules(view(snapshot(instance()), trail=_trail(MIB, models=("qwen",)))) == []


def test_another_process_with_the_same_number_has_another_trail() -> None:
    other = instance(created_at=NOW - 1800)
    assert _rules(view(snapshot(other), trail=_trail(MIB))) == []


def test_a_server_that_should_run_and_does_not() -> None:
    down = snapshot(instance(), reachable=False, models_loaded=None, error="nothing listens there")
    assert _rules(view(down)) == [("lmstudio-api-down", "lmstudio:100", "start-server")]
    manual = settings({"lmstudio": {"server": {"autostart": False}}})
    assert _rules(view(down, made=manual)) == []
    assert _rules(view(snapshot(instance(), reachable=None, models_loaded=None))) == []
    assert _rules(view(snapshot(reachable=False, models_loaded=None))) == []


@pytest.mark.parametrize(
    ("idle", "ttl", "sick"),
    [(3601, None, True), (3599, None, False), (None, None, False), (5000, 7200, False), (7201, 7200, True)],
)
def test_a_model_that_outstays_its_time(idle: float | None, ttl: float | None, sick: bool) -> None:
    seen = view(snapshot(instance(), models=[model(idle_seconds=idle, ttl_seconds=ttl)]))
    assert bool(_rules(seen)) is sick


def test_a_model_is_not_unloaded_while_anything_is_served() -> None:
    seen = view(snapshot(instance(busy=True), models=[model(idle_seconds=9999)]))
    assert _rules(seen) == []


def test_of_a_model_that_is_loaded_twice_the_first_stays() -> None:
    loaded = [model("qwen:2"), model("qwen"), model("other"), model("qwen:10")]
    assert _rules(view(snapshot(instance(), models=loaded))) == [
        ("model-duplicated", "model:qwen:2", "unload"),
        ("model-duplicated", "model:qwen:10", "unload"),
    ]


AURA = r"C:\Program Files (x86)\ASUS\AURA lighting effect add-on\LM_Support.exe"


def _aura(path: str | None = AURA, cpu: float = 512.0) -> View:
    process = Watched(
        name="LM_Support.exe",
        pid=7,
        created_at=1.0,
        executable=path,
        cpu_percent=cpu,
        known_as="ASUS Aura's lighting add-on",
    )
    return view(snapshot(watched=[process]))


def test_lm_support_is_told_by_name_with_what_it_is_and_never_ended_by_default() -> None:
    (finding,) = _found(_aura())
    assert (finding.rule, finding.target, finding.mode, finding.action) == (
        "watched-process",
        "process:LM_Support.exe",
        "report",
        None,
    )
    assert "ASUS Aura" in finding.evidence["says"]
    assert _found(_aura(cpu=10.0)) == []


@pytest.mark.parametrize(
    ("path", "acts"),
    [
        (AURA, True),
        (AURA.upper(), True),
        (AURA.replace("\\", "/"), True),
        (r"D:\other\LM_Support.exe", False),
        (None, False),
    ],
)
def test_a_watched_process_is_acted_on_by_its_full_path_alone(path: str | None, acts: bool) -> None:
    made = settings(watched=[{"name": "LM_Support", "do": "act", "path": AURA}])
    (finding,) = _found(replace(_aura(path), settings=made))
    assert finding.acts is acts


def test_paths_are_compared_as_their_system_does() -> None:
    assert same_path("/usr/bin/x", "/usr/bin/../bin/x")
    assert not same_path("/usr/bin/x", "/usr/bin/X")
    assert same_path(r"C:\A\x.exe", "c:/a/X.EXE")
