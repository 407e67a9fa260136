"""``calm plan --out FILE`` and ``calm apply --plan FILE``: apply exactly what somebody has read.

The file is the plan's document and a mark per resource. It holds no secret: what is sensitive is not in the
document, and of ``--data`` it has the keys alone, so that apply has to be given the same again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calm.atomic import replace as write_file
from calm.fleet.agreed import Agreed, marks

if TYPE_CHECKING:
    from calm.fleet.targets import Target
    from calm.fleet.work import Job, Outcome


class PlanFileError(Exception):
    """The plan file cannot be used. The text says why."""


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """What was planned, when, and for which hosts."""

    made_at: float
    inventory: Path
    limit: tuple[str, ...]
    only: tuple[str, ...]
    data_keys: tuple[str, ...]
    hosts: frozenset[str]
    agreed: Agreed

    def job(self, job: Job) -> Job:
        """``job``, narrowed to what this plan is about.

        Raises:
            PlanFileError: it is about another inventory, other resources or other ``--data``.
        """
        _same("inventory", self.inventory, job.target.inventory)
        _same("--data", self.data_keys, keys(job.target))
        if job.target.limit or job.only:
            raise PlanFileError("The plan says which hosts and resources; leave out --limit and --only.")
        target = replace(job.target, limit=self.limit, names=self.hosts)
        return replace(job, target=target, only=self.only, agreed=self.agreed)


def write(file: Path, job: Job, outcome: Outcome) -> None:
    """Keep the plan ``outcome`` of ``job`` in ``file``, readable by its owner alone.

    Hosts that could not be planned are not in it.
    """
    runs = outcome.passed.board.hosts
    planned = [row["name"] for row in outcome.document["hosts"] if row["error"] is None]
    drifts = {name: runs[name].drift for name in planned}
    document = {
        "schema": 1,
        "made_at": time.time(),
        "inventory": str(job.target.inventory),
        "limit": job.target.limit,
        "only": job.only,
        "data_keys": keys(job.target),
        "marks": {name: marks(drift.pending) for name, drift in drifts.items() if drift is not None},
        "plan": outcome.document,
    }
    write_file(file, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def read(file: Path) -> PlanFile:
    """The plan in ``file``.

    Raises:
        PlanFileError: it is not there, or is no plan.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return PlanFile(
            made_at=float(found["made_at"]),
            inventory=Path(found["inventory"]),
            limit=tuple(found["limit"]),
            only=tuple(found["only"]),
            data_keys=tuple(found["data_keys"]),
            hosts=frozenset(found["marks"]),
            agreed=Agreed(
                marks={name: frozenset(each.items()) for name, each in found["marks"].items()}, exact=True
            ),
        )
    except OSError as error:
        raise PlanFileError(f"{file} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PlanFileError(f"{file} is no plan; `calm plan --out {file}` writes one.") from None


def keys(target: Target) -> tuple[str, ...]:
    """The dotted keys of ``--data``, without their values."""
    return tuple(sorted(_keys(target.data.get("calm", {}))))


def _keys(data: Mapping[str, Any], before: str = "") -> list[str]:
    found: list[str] = []
    for key, value in data.items():
        name = f"{before}{key}"
        found += _keys(value, f"{name}.") if isinstance(value, Mapping) and value else [name]
    return found


def _same(what: str, planned: object, given: object) -> None:
    if planned != given:
        shown = " ".join(planned) if isinstance(planned, tuple) else planned
        raise PlanFileError(f"The plan was made with another {what}: {shown or 'none'}. Give the same.")
