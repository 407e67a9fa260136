"""The layers of a host's settings, from a real pyinfra inventory."""

from __future__ import annotations

from pyinfra.api import Inventory

from calm.fleet.layers import layers
from calm.settings.load import load


def test_every_layer_is_merged_deeply_and_named() -> None:
    inventory = Inventory(
        (["gpu-1"], {}),
        all=(["gpu-1"], {"calm": {"docker": {"redis": {"memory": "1G"}}}}),
        big=(["gpu-1"], {"calm": {"docker": {"redis": {"cpus": 0.75}}}}),
        override_data={"calm": {"docker": {"bind": "127.0.0.2"}}},
    )
    host = inventory.get_host("gpu-1")
    found = layers(inventory, host.name, host.groups, source="inv.py")
    assert [layer.source for layer in found] == ["inv.py: group all", "inv.py: group big", "--data"]
    settings = load(found, host="gpu-1")
    assert settings.docker.redis.memory == 1 << 30
    assert settings.docker.redis.cpus == 0.75
    assert settings.docker.bind == "127.0.0.2"
