"""The inventory, the checkout and ``--data``."""

from __future__ import annotations

from pathlib import Path

import pytest

from calm.fleet.targets import InventoryError, checkout_of, overrides, target


def test_data_becomes_nested_and_typed() -> None:
    pairs = [
        "docker.redis.memory=1G",
        "calm.docker.redis.cpus=0.5",
        "lmstudio.restart=true",
        'docker.retired=["a"]',
    ]
    assert overrides(pairs) == {
        "calm": {
            "docker": {"redis": {"memory": "1G", "cpus": 0.5}, "retired": ["a"]},
            "lmstudio": {"restart": True},
        }
    }


def test_no_data_hides_nothing() -> None:
    assert overrides([]) == {}


@pytest.mark.parametrize("pair", ["docker", "=1", ".=1", "docker.redis=[", "x={"])
def test_data_that_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(InventoryError, match="--data"):
        overrides([pair])


def test_a_value_and_a_key_below_it_are_refused() -> None:
    with pytest.raises(InventoryError, match="value of its own"):
        overrides(["docker.redis=1", "docker.redis.memory=1G"])


def test_the_checkout_is_the_nearest_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy.py").touch()
    (tmp_path / "templates").mkdir()
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir("/")
    assert checkout_of(inner) == tmp_path


def test_outside_of_any_checkout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InventoryError, match="no checkout"):
        target(None)


def test_an_inventory_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy.py").touch()
    (tmp_path / "templates").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InventoryError, match=r"no inventory at mine\.py"):
        target("mine.py")
