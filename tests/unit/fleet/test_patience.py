"""How long a host may take."""

from __future__ import annotations

import pytest

from calm.fleet.patience import MARGIN_SECONDS, seconds
from calm.onhost import agent_effects, command_effects, container_effects, effect, lmstudio_effects


def alone(**one: object) -> int:
    """What one effect may take, without the margin."""
    return seconds([one]) - MARGIN_SECONDS


@pytest.mark.parametrize(
    ("do", "own"),
    [
        ("compose", command_effects.COMPOSE_SECONDS),
        ("run", command_effects.RUN_SECONDS),
        ("wait_healthy", container_effects.DEADLINE_SECONDS),
        ("container", 2 * container_effects.STOP_SECONDS + 30),
        ("lmstudio", lmstudio_effects.DEADLINE_SECONDS),
        ("agent", 3 * agent_effects.TIMEOUT_SECONDS),
    ],
)
def test_an_effect_ends_by_itself_before_nobody_waits_for_it_any_more(do: str, own: float) -> None:
    assert alone(do=do) >= own


def test_a_time_of_its_own_counts_and_all_effects_add_up() -> None:
    wait = {"do": "wait_healthy", "container": "redis", "deadline_s": 400}
    assert alone(**wait) > 400
    assert seconds([wait, wait]) == 2 * alone(**wait) + MARGIN_SECONDS


@pytest.mark.parametrize("do", sorted({**effect.EFFECTS, **effect.FOREIGN}))
def test_every_effect_has_time(do: str) -> None:
    assert alone(do=do) > 0
