"""How often may a target be acted on? Pure: acts and times come in, a verdict goes out.

Everything follows from the acts that the journal remembers, so a restart of the agent forgets nothing. The
constants are those of kubelet (10 s x 2 up to 300 s) and of Nomad (25 % jitter).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal
from zlib import crc32

DAY = 86_400.0
Verdict = Literal["go", "wait", "spent"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The budget of one target. ``acts`` within ``window`` seconds, ``per_day`` within 24 hours."""

    acts: int = 3
    window: float = 600.0
    per_day: int = 10
    first_delay: float = 10.0
    longest_delay: float = 300.0
    jitter: float = 0.25


@dataclass(frozen=True, kw_only=True)
class Act:
    """One act on a target. ``turn`` is shared by what was done about one thing at one time.

    ``ended`` is ``None`` while it runs, and for ever if the agent was killed meanwhile.
    """

    turn: str
    began: float
    ended: float | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """``until`` is when it may be tried again, ``None`` for now or not until it is healthy."""

    verdict: Verdict
    reason: str
    until: float | None = None


def confirmed(looks: Sequence[bool], needed: int, of: int) -> bool:
    """Whether at least ``needed`` of the last ``of`` looks saw it."""
    return sum(looks[-of:]) >= needed


def decide(key: str, acts: Sequence[Act], *, now: float, limits: Limits) -> Decision:
    """Say whether ``key`` may be acted on at ``now``.

    ``acts`` are those of this target, in any order. An act later than ``now`` (the clock went back) counts as
    one of this moment: rather one act too few.
    """
    turns = _turns(acts, now)
    recent = sum(now - turn.began < limits.window for turn in turns)
    today = sum(now - turn.began < DAY for turn in turns)
    if recent >= limits.acts:
        return Decision(verdict="spent", reason=f"{recent} acts in {_span(limits.window)} did not help")
    if today >= limits.per_day:
        return Decision(verdict="spent", reason=f"{today} acts in 24 h did not help")
    until = _not_before(key, turns, limits)
    if until > now:
        return Decision(
            verdict="wait", reason=f"acted on just now; next try in {until - now:.0f} s", until=until
        )
    return Decision(verdict="go", reason="within budget")


def delay(key: str, turns: Sequence[Act], limits: Limits) -> float:
    """Seconds to wait after the last of ``turns``: doubled for each act of a row.

    A row ends when a target was left alone for ``window`` seconds. The jitter is fixed by the act itself, so
    that the answer is the same whenever and by whomever it is asked.
    """
    row = _row(turns, limits)
    # 2 ** 64 seconds are past any cap; the exponent is bounded so that no float overflows.
    base = min(limits.first_delay * 2.0 ** min(row - 1, 64), limits.longest_delay)
    share = crc32(f"{key} {turns[-1].turn}".encode()) / 0xFFFF_FFFF
    return base * (1 + limits.jitter * share)


def row(acts: Sequence[Act], *, now: float, limits: Limits) -> int:
    """How many acts the row has that is still going on: which rung of a ladder comes next."""
    turns = _turns(acts, now)
    if not turns or now - _end(turns[-1]) >= limits.window:
        return 0
    return _row(turns, limits)


def _row(turns: Sequence[Act], limits: Limits) -> int:
    count = 1
    for before, after in reversed(list(pairwise(turns))):
        if after.began - _end(before) >= limits.window:
            break
        count += 1
    return count


def _not_before(key: str, turns: Sequence[Act], limits: Limits) -> float:
    return _end(turns[-1]) + delay(key, turns, limits) if turns else 0.0


def _turns(acts: Sequence[Act], now: float) -> list[Act]:
    """One act per turn, oldest first: several instances ended together are one try."""
    turns: dict[str, Act] = {}
    for act in sorted(acts, key=lambda act: (min(act.began, now), act.turn)):
        first = turns.get(act.turn, act)
        turns[act.turn] = Act(
            turn=act.turn,
            began=min(first.began, now),
            ended=max(min(_end(first), now), min(_end(act), now)),
        )
    return list(turns.values())


def _end(act: Act) -> float:
    return act.began if act.ended is None else act.ended


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
