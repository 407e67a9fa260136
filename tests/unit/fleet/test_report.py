"""What people read and what programs read, of the same pass."""

from __future__ import annotations

from calm.drift.model import Action, Change, HostDrift, LeftOut, Origin, Refusal, Resource
from calm.fleet import report
from calm.fleet.board import HostError, HostRun
from calm.settings import Settings

DRIFT = HostDrift(
    resources=(
        Resource(
            id="document:compose",
            kind="document",
            action=Action.CREATE,
            origin=Origin.NEW,
            diff="--- before\n+++ after\n@@ -0,0 +1 @@\n+services:",
        ),
        Resource(
            id="service:redis",
            kind="service",
            action=Action.UPDATE,
            origin=Origin.HOST,
            changes=(
                Change(path="memory", before=2 << 30, after=512 << 20),
                Change(path="password", before="old-secret", after="new-secret", sensitive=True),
            ),
            note="takes effect at once",
        ),
        Resource(
            id="service:postgres",
            kind="service",
            refused=Refusal(message="Port 5432 is taken.", hint="Stop it, or set another port."),
        ),
        Resource(id="volume:data", kind="volume"),
    ),
    left_out=(LeftOut(id="document:lmstudio-settings", reason="LM Studio is not installed"),),
    notes=("cpus are limited to 2, which is what the host has",),
    record={},
)

GOLDEN = """\
@local: failed
  + document:compose: create  (new)
      a new file of 1 line
  ~ service:redis: update  (changed on the host)
      memory: 2G -> 512M
      password: (sensitive)
      note: takes effect at once
  ! service:postgres: refused
      Port 5432 is taken.
      Stop it, or set another port.
  left out: document:lmstudio-settings: LM Studio is not installed
  note: cpus are limited to 2, which is what the host has

gpu-2: unreachable
  No route to host
  Check that it is up.

HOST    STATUS       TO CHANGE  FAILED  WHY
@local  failed       2          1       service:postgres
gpu-2   unreachable  0          0       unreachable

Plan: 1 to create, 1 to change, 0 to remove, 2 failed on 2 hosts"""


def plan(run: HostRun) -> report.Document:
    hint = "Check that it is up."
    down = {"gpu-2": HostError(code="unreachable", message="No route to host", hint=hint)}
    return report.document("plan", ["@local", "gpu-2"], {"@local": run}, down, every=False)


def test_a_plan_as_text() -> None:
    import click

    run = HostRun(name="@local", digest_key="", drift=DRIFT)
    assert click.unstyle(report.text(plan(run), notes={"@local": DRIFT.notes})) == GOLDEN


def test_a_plan_as_json() -> None:
    whole = plan(HostRun(name="@local", digest_key="", drift=DRIFT))
    assert whole["summary"] == {
        "create": 1,
        "update": 1,
        "remove": 0,
        "unchanged": 1,
        "failed": 2,
        "hosts": 2,
    }
    assert [row["status"] for row in whole["hosts"]] == ["failed", "unreachable"]
    assert "old-secret" not in str(whole)
    assert "new-secret" not in str(whole)


def test_a_host_that_could_not_be_read() -> None:
    error = HostError(code="probe", message="No Python.", hint="Install it.")
    row = plan(HostRun(name="@local", digest_key="", error=error))["hosts"][0]
    assert row["status"] == "failed"
    assert row["error"] == {"code": "probe", "message": "No Python.", "hint": "Install it."}


def test_what_is_removed_is_no_place_to_find_anything() -> None:
    gone = Resource(id="service:redis", kind="service", action=Action.REMOVE)
    state = {"root": {"path": "/calm"}, "containers": [{"service": "redis"}, {"service": "postgres"}]}
    run = HostRun(name="@local", digest_key="", settings=Settings(), state=state)
    run.drift = HostDrift(resources=(gone,), left_out=(), notes=(), record={})
    [row] = report.document("apply", ["@local"], {"@local": run}, {}, every=False)["hosts"]
    assert [place.split()[0] for place in row["places"]] == ["files", "postgres"]
