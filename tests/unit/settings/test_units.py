from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calm.settings.units import duration_seconds, duration_text, size_bytes, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 536870912),
        ("512mb", 536870912),
        ("512MiB", 536870912),
        ("1g", 1073741824),
        ("1.5G", 1610612736),
        ("10 k", 10240),
        ("100b", 100),
        ("100", 100),
        ("2T", 2199023255552),
        (0, 0),
        (536870912, 536870912),
    ],
)
def test_a_size_is_read_as_docker_reads_it(text: object, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize(
    "wrong", ["", "M", "512X", "1,5G", "1e3", True, None, 1.5, [512], "5 12M", "9" * 400 + "T", 10**400]
)
def test_what_is_not_a_size_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ValueError, match=r'is not a size; write a number with k, M or G, such as "512M"'):
        size_bytes(wrong)


@pytest.mark.parametrize("wrong", [-1, "-512M"])
def test_a_negative_size_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="a size cannot be negative"):
        size_bytes(wrong)


@given(st.integers(min_value=0, max_value=2**45))
def test_a_size_survives_being_written(size: int) -> None:
    assert size_bytes(size_text(size)) == size


def test_a_size_is_written_short() -> None:
    assert [size_text(size) for size in (0, 100, 10240, 536870912, 1610612736)] == [
        "0",
        "100b",
        "10k",
        "512M",
        "1536M",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (30, 30),
        (0.5, 0.5),
        ("30s", 30),
        ("168h", 604800),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("2d", 172800),
        ("1w", 604800),
    ],
)
def test_a_duration_is_read(text: object, seconds: float) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    "wrong", ["", "soon", "30 sec", "1h30", math.inf, math.nan, True, None, "3 0s0", "9" * 400 + "s", 10**400]
)
def test_what_is_not_a_duration_is_refused_with_examples(wrong: object) -> None:
    with pytest.raises(
        ValueError, match=r'is not a duration; write seconds, or such as "30s", "10m", "168h"'
    ):
        duration_seconds(wrong)


@pytest.mark.parametrize("wrong", [-1, -0.5, "-30s"])
def test_a_negative_duration_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="a duration cannot be negative"):
        duration_seconds(wrong)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (93, "93 s"), (279, "4.65 min"), (3600, "1 h"), (86400, "24 h"), (604800, "7 days")],
)
def test_a_duration_is_said_to_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
