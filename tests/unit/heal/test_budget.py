from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calm.heal.budget import DAY, Act, Limits, confirmed, decide, delay

LIMITS = Limits()
NOW = 1_770_000_000.0


def _acts(*ages: float, took: float = 0.0) -> list[Act]:
    return [Act(turn=str(age), began=NOW - age, ended=NOW - age + took) for age in ages]


@pytest.mark.parametrize(
    ("looks", "is_so"),
    [
        ([], False),
        ([True, True], False),
        ([True, True, True], True),
        ([True, False, True, False, True], True),
        ([True, True, True, False, False, False, False], False),
    ],
)
def test_three_of_the_last_five_looks_confirm(looks: list[bool], is_so: bool) -> None:
    assert confirmed(looks, 3, 5) is is_so


def test_the_first_act_is_free() -> None:
    assert decide("a", [], now=NOW, limits=LIMITS).verdict == "go"


def test_the_second_waits_ten_seconds_and_up_to_a_quarter_more() -> None:
    assert decide("a", _acts(9.9), now=NOW, limits=LIMITS).verdict == "wait"
    assert decide("a", _acts(12.6), now=NOW, limits=LIMITS).verdict == "go"


def test_the_wait_is_counted_from_the_end_of_an_act() -> None:
    assert decide("a", _acts(60, took=55), now=NOW, limits=LIMITS).verdict == "wait"


def test_each_further_act_of_a_row_waits_twice_as_long_up_to_the_cap() -> None:
    limits = Limits(jitter=0)
    rows = [_acts(*range(500 - count * 10, 500, 10)) for count in range(1, 9)]
    turns = [sorted(row, key=lambda act: act.began) for row in rows]
    assert [delay("a", row, limits) for row in turns] == [10, 20, 40, 80, 160, 300, 300, 300]


def test_a_row_ends_when_left_alone_for_the_window() -> None:
    assert delay("a", sorted(_acts(2000, 1990, 100), key=lambda act: act.began), Limits(jitter=0)) == 10


def test_three_in_ten_minutes_are_the_budget() -> None:
    decision = decide("a", _acts(500, 400, 300), now=NOW, limits=LIMITS)
    assert decision.verdict == "spent"
    assert decision.reason == "3 acts in 10 min did not help"


def test_ten_a_day_are_the_budget_whatever_the_window() -> None:
    acts = _acts(*range(3600, 3600 * 11, 3600))
    assert decide("a", acts, now=NOW, limits=LIMITS).verdict == "spent"
    assert decide("a", acts[:9], now=NOW, limits=LIMITS).verdict == "go"


def test_an_act_of_yesterday_is_forgotten() -> None:
    acts = _acts(*[DAY + age for age in range(0, 7000, 700)])
    assert decide("a", acts, now=NOW, limits=LIMITS).verdict == "go"


def test_several_instances_ended_together_are_one_try() -> None:
    acts = [Act(turn="one", began=NOW - 100 + step, ended=NOW - 99 + step) for step in range(3)]
    assert decide("lmstudio", acts, now=NOW, limits=LIMITS).verdict == "go"


def test_an_act_that_was_never_finished_counts() -> None:
    acts = [Act(turn=str(age), began=NOW - age) for age in (100, 200, 300)]
    assert decide("a", acts, now=NOW, limits=LIMITS).verdict == "spent"


def test_an_act_of_the_future_counts_as_one_of_now() -> None:
    assert decide("a", _acts(-3600), now=NOW, limits=LIMITS).verdict == "wait"
    assert decide("a", _acts(-3600, -3700, -3800), now=NOW, limits=LIMITS).verdict == "spent"


@settings(deadline=None)
@given(
    ages=st.lists(st.floats(0, 3 * DAY), max_size=30),
    key=st.text(max_size=10),
    took=st.floats(0, 100),
)
def test_never_more_than_the_budget_and_always_the_same_answer(
    ages: list[float], key: str, took: float
) -> None:
    acts = [Act(turn=f"{index}", began=NOW - age, ended=NOW - age + took) for index, age in enumerate(ages)]
    decision = decide(key, acts, now=NOW, limits=LIMITS)
    assert decision == decide(key, acts[::-1], now=NOW, limits=LIMITS)
    if decision.verdict == "go":
        assert sum(age < LIMITS.window for age in ages) < LIMITS.acts
        assert sum(age < DAY for age in ages) < LIMITS.per_day
        assert all(age + 1e-6 >= LIMITS.first_delay + min(took, age) for age in ages)


def test_a_simulated_year_stays_within_the_budget_at_every_midnight_and_month_end() -> None:
    """A target that is always sick, looked at every eleven minutes for a year."""
    acts: list[Act] = []
    for minute in range(0, 366 * 24 * 60, 11):
        now = NOW + minute * 60
        acts = [act for act in acts if now - act.began < 2 * DAY]
        if decide("a", acts, now=now, limits=LIMITS).verdict == "go":
            assert sum(now - act.began < LIMITS.window for act in acts) < LIMITS.acts
            assert sum(now - act.began < DAY for act in acts) < LIMITS.per_day
            acts.append(Act(turn=str(minute), began=now, ended=now + 1))
    assert acts
