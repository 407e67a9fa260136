"""Which exit code wins."""

from __future__ import annotations

import pytest

from calm.cli.exits import Exit, worst


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((), Exit.OK),
        ((Exit.OK, Exit.PENDING), Exit.PENDING),
        ((Exit.PENDING, Exit.UNREACHABLE), Exit.UNREACHABLE),
        ((Exit.UNREACHABLE, Exit.FAILED), Exit.FAILED),
        ((Exit.FAILED, Exit.INVALID), Exit.INVALID),
        ((Exit.QUARANTINED, Exit.UNHEALTHY), Exit.UNHEALTHY),
        ((Exit.REGRESSED, Exit.PENDING), Exit.REGRESSED),
        (tuple(Exit), Exit.INTERRUPTED),
    ],
)
def test_the_worst_of_several_codes(codes: tuple[Exit, ...], expected: Exit) -> None:
    assert worst(codes) is expected


def test_every_code_has_a_place() -> None:
    assert {worst([code]) for code in Exit} == set(Exit)
