"""What a person has agreed to: the changes that a plan showed, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from calm.drift.model import HostDrift, Resource

# The digest in a placeholder has a key of its own in every pass.
_PLACEHOLDER = re.compile(r"calm-masked-[0-9a-f]+")


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """The pending resources by host that were agreed to, each as its id and a mark.

    The mark of an apply that has just shown its plan is the action alone: less to do than shown is fine.
    An ``exact`` one is a hash over all that the plan said, and then less is a surprise, too.
    """

    marks: Mapping[str, frozenset[tuple[str, str]]]
    exact: bool = False

    def surprises(self, host: str, drift: HostDrift) -> tuple[str, ...]:
        """Ids of the resources of ``host`` that are not as agreed."""
        now = frozenset((resource.id, self._mark(resource)) for resource in drift.pending)
        then = self.marks.get(host, frozenset())
        different = now ^ then if self.exact else now - then
        return tuple(sorted({identity for identity, _ in different}))

    def _mark(self, resource: Resource) -> str:
        return mark(resource) if self.exact else resource.action.value


def shown(document: Mapping[str, Any]) -> Agreed:
    """Agreement to what ``plan --json`` has in ``document``."""
    return Agreed(
        marks={
            row["name"]: frozenset((resource["id"], resource["action"]) for resource in row["resources"])
            for row in document["hosts"]
        }
    )


def mark(resource: Resource) -> str:
    """A hash over what a plan says of ``resource``: the same for the same change, whoever asks and when."""
    said = [
        resource.id,
        resource.action.value,
        [change.to_json() for change in resource.changes],
        resource.diff,
        resource.refused.message if resource.refused else None,
    ]
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(_PLACEHOLDER.sub("calm-masked", text).encode()).hexdigest()


def marks(resources: Iterable[Resource]) -> dict[str, str]:
    """The mark of each pending resource, by id."""
    return {resource.id: mark(resource) for resource in resources if resource.pending}
