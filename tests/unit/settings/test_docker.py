from __future__ import annotations

import pytest

from calm.settings.docker import Docker


def test_the_tuned_limits() -> None:
    docker = Docker()
    services = (docker.postgres, docker.redis, docker.agent_api)
    assert [(s.cpus, s.memory >> 20, s.memory_reserved >> 20) for s in services] == [
        (1, 1024, 512),
        (0.5, 512, 256),
        (2, 2048, 1024),
    ]
    assert {(s.swap, s.pids, s.restart) for s in services} == {(0, 200, "unless-stopped")}
    assert docker.bind == "127.0.0.1"


def test_a_service_that_is_declared_is_not_retired() -> None:
    docker = Docker.model_validate({"services": {"nginx": {"image": "nginx:1"}}})
    assert docker.retired == ("prometheus", "grafana")


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (8, "8"), (0.5, "0.5"), ("x", "x")])
def test_an_environment_variable_is_text(value: object, text: str) -> None:
    docker = Docker.model_validate({"agent_api": {"environment": {"NAME": value}}})
    assert docker.agent_api.environment == {"NAME": text}


@pytest.mark.parametrize("image", ["postgres:15-alpine", "r.example/a/b-c:1@sha256:0a1b", "localhost:5000/x"])
def test_images_as_docker_names_them(image: str) -> None:
    assert Docker.model_validate({"postgres": {"image": image}}).postgres.image == image


@pytest.mark.parametrize("policy", ["no", "always", "unless-stopped", "on-failure", "on-failure:5"])
def test_restart_policies_as_docker_names_them(policy: str) -> None:
    assert Docker.model_validate({"redis": {"restart": policy}}).redis.restart == policy
