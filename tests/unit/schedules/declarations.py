"""Schedules for tests: a table that every renderer is shown, and a strategy for any schedule at all."""

from __future__ import annotations

from hypothesis import strategies as st

from calm.schedules.calendar import calendar
from calm.schedules.model import (
    DAYS,
    Always,
    At,
    Clock,
    Daily,
    Every,
    Hourly,
    Monthly,
    Schedule,
    Weekly,
    When,
)

CALM = ("/home/ann/calm/agent/venv/bin/calm", "--settings", "/home/ann/calm/settings.json")
NINE = Clock(hour=9, minute=0)

TABLE = {
    "daily": Schedule(
        name="lmstudio-monitor",
        when=Daily(clock=NINE),
        command=(*CALM, "heal", "--only", "lmstudio"),
        timeout=900,
        jitter=300,
        catch_up=True,
    ),
    "hourly": Schedule(
        name="docker-health", when=Hourly(), command=(*CALM, "heal", "--only", "docker"), timeout=600
    ),
    "weekly": Schedule(
        name="prune",
        when=Weekly(days=("Mon", "Sun"), clock=Clock(hour=23, minute=0)),
        command=(*CALM, "prune"),
        catch_up=True,
    ),
    "monthly": Schedule(
        name="report", when=Monthly(day=1, clock=Clock(hour=6, minute=5)), command=(*CALM, "report")
    ),
    "every": Schedule(name="often", when=Every(seconds=900), command=(*CALM, "check"), jitter=30),
    "login": Schedule(name="hello", when=At(event="login"), command=(*CALM, "up")),
    "watch": Schedule(name="watch", when=Always(), command=(*CALM, "watch")),
}

_clocks = st.builds(Clock, hour=st.integers(0, 23), minute=st.integers(0, 59))
_days = st.sets(st.sampled_from(DAYS), min_size=1).map(
    lambda chosen: tuple(day for day in DAYS if day in chosen)
)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    pair = st.tuples(number, number).map(sorted)
    item = st.one_of(
        number.map(str),
        pair.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.tuples(pair, st.integers(1, 9)).map(lambda parts: f"{parts[0][0]}-{parts[0][1]}/{parts[1]}"),
        st.integers(2, 12).map(lambda step: f"*/{step}"),
    )
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


cron_fields = st.tuples(_field(0, 59), _field(0, 23), _field(1, 31), _field(1, 12), _field(0, 7)).map(
    " ".join
)

whens: st.SearchStrategy[When] = st.one_of(
    st.builds(Daily, clock=_clocks),
    st.builds(Hourly, minute=st.integers(0, 59)),
    st.builds(Weekly, days=_days, clock=_clocks),
    st.builds(Monthly, day=st.integers(1, 31), clock=_clocks),
    st.builds(
        Every, seconds=st.one_of(st.integers(1, 10**6), st.sampled_from([60, 300, 900, 3600, 7200, 86400]))
    ),
    st.builds(At, event=st.sampled_from(["boot", "login"])),
    cron_fields.map(calendar),
    st.sampled_from(["Mon..Fri *-*-* 08..18:00/10:30", "quarterly", "2030-01-01 12:34:56"]).map(calendar),
    st.just(Always()),
)

words = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn"), exclude_characters="\x85"), max_size=20
)

schedules = st.builds(
    Schedule,
    name=st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True),
    when=whens,
    command=st.tuples(words.map("/opt/calm ".__add__), st.lists(words, max_size=4)).map(
        lambda parts: (parts[0], *parts[1])
    ),
    timeout=st.none() | st.integers(1, 10**6),
    jitter=st.just(0) | st.integers(1, 10**5),
    catch_up=st.booleans(),
)
