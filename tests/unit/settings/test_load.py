from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from calm.settings import Settings
from calm.settings.load import Layer, Problem, SettingsError, load, read


def settings(*layers: Mapping[str, Any]) -> Settings:
    return load([Layer(source=f"layer {index}", data=data) for index, data in enumerate(layers)], host="here")


def problems(*layers: Mapping[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings(*layers)
    return [str(problem) for problem in caught.value.problems]


def test_no_layer_at_all_gives_the_defaults() -> None:
    assert settings() == Settings()
    assert settings({}).docker.redis.memory == 512 * 1024**2


def test_layers_are_merged_key_by_key_and_the_last_wins() -> None:
    whole = settings(
        {"docker": {"redis": {"memory": "1G", "cpus": 1}, "postgres": {"max_connections": 40}}},
        {"docker": {"redis": {"cpus": 2}}},
    )
    assert whole.docker.redis.memory == 1024**3
    assert whole.docker.redis.cpus == 2
    assert whole.docker.postgres.max_connections == 40


def test_part_of_a_health_check_leaves_the_rest_at_the_service_s_own_defaults() -> None:
    api = settings({"docker": {"agent_api": {"health": {"retries": 5}}}}).docker.agent_api
    assert (api.health.retries, api.health.interval, api.health.start_period) == (5, 30, 40)


def test_a_list_replaces_the_one_below() -> None:
    assert settings(
        {"docker": {"retired": ["nginx", "caddy"]}}, {"docker": {"retired": ["caddy"]}}
    ).docker.retired == ("caddy",)


def test_a_job_that_says_when_replaces_when_it_ran_before() -> None:
    jobs = settings(
        {"schedules": {"jobs": {"prune": {"daily": "03:00"}, "mine": {"daily": "01:00", "run": "check"}}}},
        {"schedules": {"jobs": {"mine": {"every": "10m"}}}},
    ).schedules.jobs
    assert (jobs["prune"].daily, jobs["prune"].weekly, jobs["prune"].run) == ("03:00", None, "prune")
    assert (jobs["mine"].daily, jobs["mine"].every, jobs["mine"].run) == (None, 600, "check")


def test_a_default_job_can_be_turned_off_alone() -> None:
    jobs = settings({"schedules": {"jobs": {"prune": {"enabled": False}}}}).schedules.jobs
    assert not jobs["prune"].enabled
    assert jobs["prune"].weekly == "Sun 23:00"
    assert set(jobs) == {"lmstudio-monitor", "docker-health", "prune", "performance-test", "report"}


@pytest.mark.parametrize(
    "layers",
    [("report", {"percent": 70}), ({"percent": 70}, "report"), ({"percent": 70, "do": "act"}, "report")],
)
def test_a_rule_s_short_form_and_its_thresholds_merge(layers: tuple[Any, Any]) -> None:
    rule = settings(*({"healing": {"rules": {"container-near-limit": layer}}} for layer in layers))
    assert rule.healing.rules["container-near-limit"].do == "report"
    assert rule.healing.rules.container_near_limit.percent == 70


def test_every_mistake_is_named_at_once_with_the_layer_that_made_it() -> None:
    with pytest.raises(SettingsError) as caught:
        load(
            [
                Layer(source="group_data/all.py", data={"docker": {"redis": {"memry": "1G"}, "bind": "lan"}}),
                Layer(
                    source="inventories/fleet.py: host gpu-2",
                    data={"docker": {"postgres": {"memory": "1G", "memory_reserved": "2G"}}},
                ),
            ],
            host="gpu-2",
        )
    assert str(caught.value).splitlines() == [
        (
            "group_data/all.py: calm.docker.bind: 'lan' is not an IP address; write \"127.0.0.1\", "
            'or "0.0.0.0" for all'
        ),
        'group_data/all.py: calm.docker.redis.memry: unknown key (did you mean "memory"?)',
        (
            "inventories/fleet.py: host gpu-2: calm.docker.postgres.memory_reserved: "
            "2G is more than the limit, memory 1G"
        ),
    ]


def test_the_source_is_the_layer_that_set_the_value_last() -> None:
    low, high = {"docker": {"redis": {"memory": "1X"}}}, {"docker": {"redis": {"port": "http"}}}
    assert [line.split(": ")[:2] for line in problems(low, high)] == [
        ["layer 0", "calm.docker.redis.memory"],
        ["layer 1", "calm.docker.redis.port"],
    ]


def test_a_value_that_is_wrong_by_itself_is_not_compared_with_others() -> None:
    lines = problems({"docker": {"redis": {"memory": "lots", "maxmemory": "10G"}}})
    assert len(lines) == 1
    assert "'lots' is not a size" in lines[0]


def test_a_disagreement_with_a_default_is_put_down_to_the_layer() -> None:
    (line,) = problems({"docker": {"redis": {"memory": "128M"}}})
    assert line == "layer 0: calm.docker.redis.memory_reserved: 256M is more than the limit, memory 128M"


@pytest.mark.parametrize("data", [None, [], "redis", 5])
def test_a_layer_that_is_no_mapping_is_refused(data: Any) -> None:
    (line,) = problems({}, data)
    assert line == f"layer 1: calm: must be a mapping of settings, not {type(data).__name__}"


def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"docker": {"project": "mine"}}), encoding="utf-8")
    assert read(path).docker.project == "mine"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "calm: the file cannot be read: No such file or directory"),
        ("{", "calm: the file is not JSON: "),
        ("[]", "calm: must be a mapping of settings, not list"),
        ('{"dockr": {}}', 'calm.dockr: unknown key (did you mean "docker"?)'),
    ],
)
def test_a_file_that_holds_no_settings_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {message}")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SECTIONS = st.sampled_from(
    [*Settings.model_fields, "docker.redis", "docker.services", "schedules.jobs", "healing.rules"]
)


def outcome(data: Any) -> tuple[Problem, ...] | None:
    try:
        load([Layer(source="fuzz", data=data)], host="here")
    except SettingsError as error:
        return error.problems
    return None


@given(SECTIONS, ANYTHING)
def test_any_value_anywhere_is_taken_or_refused_in_one_line_each(path: str, value: Any) -> None:
    data: Any = value
    for key in reversed(path.split(".")):
        data = {key: data}
    told = outcome(data)
    assert told is None or told
    assert all(problem.source == "fuzz" and problem.path.startswith("calm") for problem in told or ())


@given(st.text(min_size=1, max_size=12).filter(lambda key: key not in Settings.model_fields))
@example("[key]")  # how pydantic marks a wrong key of a mapping
def test_an_unknown_key_never_passes(key: str) -> None:
    with pytest.raises(SettingsError, match="unknown key"):
        load([Layer(source="fuzz", data={key: {}})], host="here")
