"""What the probe says of Docker where no engine answers."""

from __future__ import annotations

from typing import Any

from calm.onhost.programs import docker_command


def nothing(status: str = "absent", error: str | None = None) -> dict[str, Any]:
    """The answer's Docker parts where no engine answers."""
    docker = dict.fromkeys(
        ("socket", "version", "api", "compose", "compose_plugin", "cpus", "memory_bytes", "cgroup", "gateway")
    )
    flags = {"desktop": False, "rootless": False, "swap_limit": None}
    return {
        "docker": {"command": docker_command(), "status": status, "error": error, **docker, **flags},
        "containers": [],
        "volumes": {},
        "networks": {},
        "images": {},
        "image_env": {},
        "running": {},
    }
