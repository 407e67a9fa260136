"""A lab host whose schedules are converged by the pushed probe and effects, with a stand-in for the agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from calm.drift import schedules
from calm.drift.model import Context, Piece, Resource
from calm.onhost import parse, script
from calm.settings import Settings
from tests.lab.hosts import Host

AGENT = """#!/bin/sh
# Stands in for the agent: notes how it was called; the service goes on until it is told to end.
echo "$*" >> "{root}/ran"
case "$*" in watch*) while :; do sleep 1; done ;; check*) exit 3 ;; esac
"""


@dataclass(kw_only=True)
class Scheduled:
    """One user's schedules on a lab host; ``settings`` is the part ``schedules``."""

    host: Host
    user: str = "root"
    settings: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def home(self) -> str:
        """The user's home."""
        return "/root" if self.user == "root" else f"/home/{self.user}"

    @property
    def root(self) -> str:
        """calm's folder there."""
        return f"{self.home}/calm"

    def install_agent(self) -> None:
        """Put the stand-in where the agent would be."""
        path = f"{self.root}/agent/venv/bin"
        install = f"mkdir -p {path} && cat > {path}/calm && chmod 755 {path}/calm"
        self.sh(install, stdin=AGENT.format(root=self.root))

    def sh(self, command: str, *, stdin: str = "", check: bool = True) -> str:
        """What a shell command of the user prints there."""
        # sudo -i gives no session, and systemctl --user needs the runtime folder of one.
        env = f"XDG_RUNTIME_DIR=/run/user/$(id -u {self.user})"
        argv = ["sh", "-c", f'exec env {env} sudo -E -H -u {self.user} sh -c "$0"', f"cd; {command}"]
        return self.host.run(*argv, stdin=stdin, check=check).stdout

    def state(self) -> dict[str, Any]:
        """What the probe says, with an agent that could run."""
        wanted = Settings.model_validate({"root": self.root, "schedules": self.settings})
        request = {"schema": 1, "root": self.root, **schedules.request(wanted)}
        answer = parse(self.sh("python3 -I -", stdin=script("probe", request)))
        assert "error" not in answer, answer
        return {**answer, "agent": {"python": {"path": "/usr/bin/python3"}}}

    def plan(self, **settings: Any) -> Piece:
        """The drift now, with ``settings`` merged into the part from now on."""
        self.settings = {**self.settings, **settings}
        wanted = Settings.model_validate({"root": self.root, "schedules": self.settings})
        context = Context(
            settings=wanted, state=self.state(), record=self.record, secrets={}, digest_key="00"
        )
        return schedules.compare(context)

    def apply(self, **settings: Any) -> dict[str, Resource]:
        """What was pending, by id; afterwards nothing may be."""
        piece = self.plan(**settings)
        effects = [effect for resource in piece.resources for effect in resource.effects]
        request = {"schema": 1, "root": self.root, "run": {"id": "00", "who": "test"}, "effects": effects}
        answer = parse(self.sh("python3 -I -", stdin=script("effect", request), check=False))
        bad = [one for one in answer["results"] if one["status"] not in ("done", "unchanged")]
        assert not bad, bad
        self.record = dict(piece.record)
        left = [resource for resource in self.plan().resources if resource.pending]
        assert not left, left
        return {resource.id: resource for resource in piece.resources if resource.pending}
