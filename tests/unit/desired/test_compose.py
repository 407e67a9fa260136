"""The Compose file: golden for default settings, and what settings and the host change in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from calm.desired.compose import STAMP, compose, redis_conf
from calm.desired.services import services
from calm.settings import Settings
from tests.unit.drift.stack_states import bare, changed, settings
from tests.unit.drift.stack_states import engine as engine_state

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str, text: str) -> None:
    """Compares with the file of that name; CALM_WRITE_GOLDEN=1 writes it anew, for a look at the diff."""
    path = GOLDEN / name
    if os.environ.get("CALM_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def rendered(wanted: Settings, **state: Any) -> dict[str, Any]:
    whole: dict[str, Any] = yaml.safe_load(compose(bare(wanted, **state)).text)
    return whole


def stamps(wanted: Settings, **state: Any) -> dict[str, str]:
    return {name: service.stamp for name, service in services(bare(wanted, **state)).items()}


FOUND = {"status": "found", "generation": "new"}


def test_default_settings() -> None:
    golden("docker-compose.yml", compose(bare(settings())).text)


def test_everything_at_once() -> None:
    docker = {
        "bind": "::1",
        "redis": {"persistence": "aof", "swap": "128M", "restart": "on-failure:5"},
        "agent_api": {"secrets_as": "env", "environment": {"PRICE": "5$", "DEBUG": False}},
        "services": {
            "nginx": {"image": "nginx:1.27", "ports": ["8000:80"], "depends_on": ["agent-api"]},
            "redis": {"sysctls": {"net.core.somaxconn": 1024}, "pids_limit": None},
        },
    }
    golden("docker-compose.full.yml", compose(bare(settings(**docker), lmstudio=FOUND)).text)


@pytest.mark.parametrize("persistence", ["none", "rdb", "aof"])
def test_redis_conf(persistence: str) -> None:
    golden(f"redis.{persistence}.conf", redis_conf(bare(settings(redis={"persistence": persistence}))))


def test_no_secret_and_no_password_in_the_file() -> None:
    text = compose(bare(settings())).text
    assert "PASSWORD:" not in text
    assert "requirepass" not in text


def test_what_update_can_set_is_not_in_the_stamp() -> None:
    limits = {
        "memory": "700M",
        "swap": "64M",
        "memory_reserved": "64M",
        "cpus": 0.25,
        "pids": 77,
        "restart": "no",
    }
    base = {"redis": {"maxmemory": "64M"}}
    assert stamps(settings(**base)) == stamps(settings(redis={**base["redis"], **limits}))


@pytest.mark.parametrize(
    ("docker", "restamped"),
    [
        ({"redis": {"maxmemory_policy": "noeviction"}}, {"redis"}),
        ({"redis": {"port": 7000}}, {"redis"}),
        ({"postgres": {"max_connections": 60}}, {"postgres"}),
        ({"agent_api": {"log_level": "DEBUG"}}, {"agent-api"}),
        ({"logging": {"max_file": 5}}, {"postgres", "redis", "agent-api"}),
        ({"services": {"redis": {"init": True}}}, {"redis"}),
    ],
)
def test_what_needs_a_new_container_is_in_the_stamp(docker: dict[str, Any], restamped: set[str]) -> None:
    before, after = stamps(settings()), stamps(settings(**docker))
    assert {name for name in before if before[name] != after[name]} == restamped


def test_a_rotation_restamps_those_who_hold_the_secret() -> None:
    base = {"docker": {"agent_api": {"image": "example/agent-api:1"}}}
    rotated = Settings.model_validate({**base, "secrets": {"rotate": {"postgres_password": 1}}})
    before, after = stamps(settings()), stamps(rotated)
    assert {name for name in before if before[name] != after[name]} == {"postgres", "agent-api"}


@pytest.mark.parametrize(
    ("lmstudio", "docker", "there"),
    [
        (FOUND, {}, True),
        ({"status": "found", "generation": "none"}, {}, False),
        ({"status": "absent"}, {}, False),
        (FOUND, {"desktop": True}, False),
        (FOUND, {"rootless": True}, False),
        (FOUND, {"gateway": None}, False),
    ],
)
def test_the_relay_is_there_where_it_is_needed(
    lmstudio: dict[str, Any], docker: dict[str, Any], there: bool
) -> None:
    whole = rendered(settings(), lmstudio=lmstudio, docker=engine_state(**docker))
    assert ("relay" in whole["services"]) is there


@pytest.mark.parametrize(
    ("lmstudio", "there"), [({"enabled": False}, False), ({"server": {"bind": "0.0.0.0"}}, False), ({}, True)]
)
def test_the_relay_obeys_the_settings(lmstudio: dict[str, Any], there: bool) -> None:
    wanted = Settings.model_validate(
        {"docker": {"agent_api": {"image": "example/api:1"}}, "lmstudio": lmstudio}
    )
    assert ("relay" in rendered(wanted, lmstudio=FOUND)["services"]) is there


def test_an_old_engine_gets_no_start_interval() -> None:
    old = rendered(settings(), docker=engine_state(api="1.43"))
    assert "start_interval" not in old["services"]["redis"]["healthcheck"]
    new = rendered(settings(), docker=engine_state(api="1.44"))
    assert new["services"]["redis"]["healthcheck"]["start_interval"] == "1s"


def test_a_network_that_calm_has_not_made_is_left_alone() -> None:
    networks = {"agent-system_agent-network": {"id": "n", "labels": {}}}
    network = rendered(settings(), networks=networks)["networks"]["agent-network"]
    assert network == {"name": "agent-system_agent-network", "external": True}


def test_raw_keys_win_and_none_takes_one_away() -> None:
    raw = {
        "redis": {
            "image": "valkey:8",
            "pids_limit": None,
            "labels": {"mine": "yes"},
            "environment": {"A": "b"},
        }
    }
    redis = rendered(settings(services=raw))["services"]["redis"]
    assert redis["image"] == "valkey:8"
    assert "pids_limit" not in redis
    assert redis["labels"]["mine"] == "yes"
    assert STAMP in redis["labels"]
    assert redis["environment"] == {"A": "b"}


def test_a_mount_of_ones_own_takes_no_data_folder_away() -> None:
    ours = rendered(settings())["services"]["postgres"]
    raw = {"postgres": {"volumes": ["/srv/init:/docker-entrypoint-initdb.d:ro"], "secrets": ["tls"]}}
    postgres = rendered(settings(services=raw))["services"]["postgres"]
    assert postgres["volumes"] == [*ours["volumes"], "/srv/init:/docker-entrypoint-initdb.d:ro"]
    assert postgres["secrets"] == [*ours["secrets"], "tls"]
    elsewhere = {"postgres": {"volumes": ["/srv/data:/var/lib/postgresql/data"]}}
    volumes = rendered(settings(services=elsewhere))["services"]["postgres"]["volumes"]
    assert volumes[-1] == "/srv/data:/var/lib/postgresql/data"
    assert len(volumes) == len(ours["volumes"])


def test_a_whole_service_of_the_users_is_found_and_finds_the_others() -> None:
    web = rendered(settings(services={"web": {"image": "nginx:1", "labels": ["a=b"]}}))["services"]["web"]
    assert web["container_name"] == "agent-system-web"
    assert web["networks"] == ["agent-network"]
    assert web["labels"][0] == "a=b"
    assert "calm.project=agent-system" in web["labels"]


def test_several_replicas_get_no_name() -> None:
    web = rendered(settings(services={"web": {"image": "nginx:1", "deploy": {"replicas": 2}}}))["services"][
        "web"
    ]
    assert "container_name" not in web


def test_the_build_is_tagged_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    wanted = settings(agent_api={"image": None, "build": str(tmp_path)})
    api = rendered(wanted)["services"]["agent-api"]
    name, _, tag = api["image"].partition(":")
    assert name == "agent-system-api"
    assert len(tag) == 12
    assert api["build"]["context"].endswith("/calm/docker/agent_api")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("first\n{{ nobody | json }}\n", "'nobody' is undefined"),
        ("first\n{{ settings.nobody }}\n", "has no attribute 'nobody'"),
        ("first\n{% if settings %\n", "unexpected"),
    ],
)
def test_a_mistake_in_a_template_names_the_file_and_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    from calm.desired.templates import TemplateError, render

    (tmp_path / "deploy.py").touch()
    (tmp_path / "templates" / "docker").mkdir(parents=True)
    (tmp_path / "templates" / "docker" / "x.j2").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TemplateError, match=r"templates/docker/x\.j2") as raised:
        render("docker/x.j2", settings={})
    assert says in str(raised.value)
    assert "templates/docker/x.j2, line 2," in raised.value.hint


@effort(max_examples=20, deadline=None)
@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z")), max_size=40))
def test_any_value_of_a_variable_arrives_as_it_is(value: str) -> None:
    api = rendered(settings(agent_api={"environment": {"VALUE": value}}))["services"]["agent-api"]
    assert api["environment"]["VALUE"].replace("$$", "$") == value


@effort(max_examples=15, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-9, 9)
        | st.text(max_size=8)
        | st.sampled_from(["22:22", "a\n\nb"]),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_any_raw_value_survives_the_round_trip(value: Any) -> None:
    whole = rendered(settings(services={"web": {"image": "nginx:1", "x-any": [value]}}))
    assert whole["services"]["web"]["x-any"] == [value]


@pytest.mark.engine
def test_compose_itself_accepts_the_file(tmp_path: Path, engine: Any) -> None:
    context = bare(settings(services={"web": {"image": "nginx:1"}}), lmstudio=FOUND)
    (tmp_path / "docker-compose.yml").write_text(compose(changed(context)).text)
    done = subprocess.run(
        ["docker", "compose", "-f", str(tmp_path / "docker-compose.yml"), "config", "-q"],
        env={**os.environ, **engine.env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
