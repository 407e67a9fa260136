"""The crontab of a user: ours in one block, the rest byte for byte."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calm.onhost.schedule_effects import merged
from calm.onhost.schedules import CRON_EDGES, CRON_MARK

PRUNE = b"0 23 * * 0 CALM_SCHEDULE=prune /opt/calm prune"
HEALTH = b"0 * * * * CALM_SCHEDULE=docker-health /opt/calm heal"


def _is_foreign(line: bytes) -> bool:
    marks = (b"CALM_SCHEDULE", b"\n", b"\r")
    return line.strip() not in CRON_EDGES and not any(mark in line for mark in marks)


_foreign_line = st.one_of(
    st.sampled_from(
        [b"MAILTO=ann", b"", b"# notes", b"0 4 * * * /usr/bin/backup 100\\%", b"*/5 * * * * echo calm-prune"]
    ),
    st.binary(max_size=30).filter(_is_foreign),
)
foreign = st.tuples(
    st.lists(_foreign_line, max_size=6), st.sampled_from([b"\n", b"\r\n"]), st.booleans()
).map(lambda parts: parts[1].join(parts[0]) + (parts[1] if parts[2] and parts[0] else b""))


def _theirs(text: bytes) -> bytes:
    kept = re.split(rb"(?<=\n)", text)
    return b"".join(line for line in kept if not CRON_MARK.search(line) and line.strip() not in CRON_EDGES)


@settings(deadline=None)
@given(foreign)
def test_what_is_not_ours_stays_byte_for_byte(text: bytes) -> None:
    once = merged(text, "prune", [PRUNE])
    both = merged(once, "docker-health", [HEALTH])
    ended = text if not text or text.endswith(b"\n") else text + b"\n"
    assert _theirs(both) == ended
    assert both.endswith(b"\n")
    assert both.count(PRUNE) == both.count(HEALTH) == 1
    assert merged(both, "prune", [PRUNE]) == both
    assert merged(merged(both, "prune", []), "docker-health", []) == ended


def test_a_last_line_without_an_end_does_not_swallow_ours() -> None:
    assert merged(b"0 1 * * * a", "prune", [PRUNE]).splitlines() == [
        b"0 1 * * * a",
        CRON_EDGES[0],
        PRUNE,
        CRON_EDGES[1],
    ]


def test_lines_around_the_block_stay_around_it() -> None:
    text = merged(b"before\n", "prune", [PRUNE]) + b"after\n"
    assert merged(text, "docker-health", [HEALTH]).splitlines() == [
        b"before",
        CRON_EDGES[0],
        HEALTH,
        PRUNE,
        CRON_EDGES[1],
        b"after",
    ]


def test_a_foreign_line_inside_our_block_survives() -> None:
    text = CRON_EDGES[0] + b"\n" + PRUNE + b"\nmine\n" + CRON_EDGES[1] + b"\n"
    assert _theirs(merged(text, "prune", [])) == b"mine\n"


@pytest.mark.parametrize(
    "other", [b"# " + PRUNE, PRUNE + b"\r", PRUNE.replace(b"23", b"5"), PRUNE + b"\n" + PRUNE]
)
def test_whatever_became_of_our_line_only_one_is_left(other: bytes) -> None:
    assert merged(other + b"\nmine\n", "prune", [PRUNE]).count(b"CALM_SCHEDULE=prune ") == 1


def test_a_name_that_begins_like_ours_is_another() -> None:
    text = merged(b"", "prune-all", [PRUNE.replace(b"=prune ", b"=prune-all ")])
    assert b"=prune-all " in merged(text, "prune", [])
