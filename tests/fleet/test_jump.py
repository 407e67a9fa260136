"""A host behind a jump host, as inventories/fleet.py has one: ssh's own configuration names the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.machines import Fleet, counted, ssh_log

pytestmark = pytest.mark.host

CONFIG = """
Host behind
    HostName {behind}
    User root
    IdentityFile {key}
    ProxyJump gate
Host gate
    HostName {gate}
    User ops
    IdentityFile {key}
"""


@pytest.fixture
def jumping(fleet: Fleet, host_key: Path, tmp_path: Path) -> Fleet:
    """An inventory of gpu-1 alone, to be reached through gpu-2; nobody's key is known yet."""
    one = Fleet(
        folder=tmp_path, key=host_key, settings=fleet.settings, whole={"behind": fleet.whole["gpu-1"]}
    )
    config = CONFIG.format(
        behind=fleet.whole["gpu-1"].address, gate=fleet.whole["gpu-2"].address, key=host_key
    )
    (one.home / ".ssh" / "config").write_text(config)
    one.data["behind"] = {}
    one.write()
    return one


def _logins(fleet: Fleet, address: str) -> int:
    """How often somebody has come to gpu-1 from ``address``."""
    log = ssh_log(fleet.whole["gpu-1"])
    return log.count(f"Accepted publickey for root from {address} ")


def test_a_host_is_reached_through_its_jump_host_once_both_keys_are_known(
    fleet: Fleet, jumping: Fleet
) -> None:
    gate, behind = fleet.whole["gpu-2"].address, fleet.whole["gpu-1"]
    unknown = jumping.rows("plan", code=3)["behind"]
    assert unknown["error"]["code"] == "host_key"
    assert "jump host" in unknown["error"]["hint"]

    jumping.trust(gate)
    unknown = jumping.rows("plan", code=3)["behind"]
    assert unknown["error"]["code"] == "host_key"
    assert "not known" in unknown["error"]["message"]

    jumping.trust(behind.address)
    before = _logins(fleet, gate)
    behind.run("rm", "/root/calm/app.yaml")
    row = jumping.apply()["behind"]
    assert row["status"] == "converged"
    assert [each["id"] for each in row["resources"]] == ["document:app.yaml"]
    assert _logins(fleet, gate) == before + 3, "plan, apply, and the look after it"
    assert counted(behind, lambda: jumping.rows("plan", code=0)) <= 2
