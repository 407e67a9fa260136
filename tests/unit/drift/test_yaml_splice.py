from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from calm.drift.merge import MergeError
from calm.drift.yaml_splice import merge, section

OURS = {
    "llm": {
        "request_timeout": 30,
        "max_retries": 2,
        "fallbacks": [{"provider": "gemini"}, {"provider": "ollama"}],
    }
}
APP = (Path(__file__).parent / "data" / "app.yaml").read_text(encoding="utf-8")


def test_only_our_keys_change_in_a_file_with_manners_of_its_own() -> None:
    merged = merge(APP, OURS)
    expected = (
        APP.replace("request_timeout:   120 ", "request_timeout:   30 ")
        .replace(
            "    -   provider: ollama\n", "    - provider: gemini     # asked last\n    - provider: ollama\n"
        )
        .replace("    -   provider: gemini   # asked last\n", "")
        .replace("  enabled: yes\n", "  enabled: yes\n  max_retries: 2\n")
    )
    assert merged == expected


def test_a_file_that_holds_our_values_in_other_words_is_left_alone() -> None:
    fallbacks = "[{provider: gemini}, {provider: ollama}]"
    text = f"llm: {{request_timeout: 30.0, 'max_retries': 0x2, fallbacks: {fallbacks}}}"
    assert merge(text, OURS) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "llm:\n  a: 1\n"),
        ("# note\n", "# note\nllm:\n  a: 1\n"),
        ("b: 1", "b: 1\nllm:\n  a: 1"),
        ("b: 1\n...\n", "b: 1\nllm:\n  a: 1\n...\n"),
        ("---\nb: 1\n", "---\nb: 1\nllm:\n  a: 1\n"),
        ("  b: 1\n", "  b: 1\n  llm:\n    a: 1\n"),
        ("\ufeffb: 1\n", "\ufeffb: 1\nllm:\n  a: 1\n"),
        ("b: 1\r\n", "b: 1\r\nllm:\r\n  a: 1\r\n"),
        ("llm:\nb: 1\n", "llm:\n  a: 1\nb: 1\n"),
        ("llm: null # none\nb: 1\n", "llm: # none\n  a: 1\nb: 1\n"),
        ("llm: ~", "llm:\n  a: 1"),
        ("llm: {}\n", "llm: {a: 1}\n"),
        ("llm: {a: 2, c: 'x, y'} # flow\n", "llm: {a: 1, c: 'x, y'} # flow\n"),
        ("{b: 1, llm: {c: 2}}", "{b: 1, llm: {c: 2, a: 1}}"),
        ("{}", "{llm: {a: 1}}"),
        ("llm:\n  a:\nb: 1\n", "llm:\n  a: 1\nb: 1\n"),
        ("llm:\n  a: |\n    long\n    text\n\n# next\nb: 1\n", "llm:\n  a: 1\n\n# next\nb: 1\n"),
        ("llm:\n  a:\n    - x\n    - y\n  c: 1\n", "llm:\n  a: 1\n  c: 1\n"),
        ("llm:\n  c: 1\n\n  # end of llm\n\nb: 1\n", "llm:\n  c: 1\n  a: 1\n\n  # end of llm\n\nb: 1\n"),
        ("llm:\n  c: |+\n    x\nb: 1\n", "llm:\n  c: |+\n    x\n  a: 1\nb: 1\n"),
        ("d: &d {a: 2}\nllm:\n  <<: *d\n  c: 1\n", "d: &d {a: 2}\nllm:\n  <<: *d\n  c: 1\n  a: 1\n"),
        ("d: &d {a: 1}\nllm:\n  <<: *d\n", "d: &d {a: 1}\nllm:\n  <<: *d\n"),
        ("b: !include x\nllm:\n  c: !mine 1\n", "b: !include x\nllm:\n  c: !mine 1\n  a: 1\n"),
        ("b: .nan\nllm: {c: 2020-01-01}\n", "b: .nan\nllm: {c: 2020-01-01, a: 1}\n"),
        ("b: &r [*r]\nllm: {}\n", "b: &r [*r]\nllm: {a: 1}\n"),
    ],
)
def test_each_shape_of_file(text: str, expected: str) -> None:
    declared = {"llm": {"a": 1}}
    assert merge(text, declared) == expected
    assert merge(expected, declared) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('llm:\n  m: "x" # c\n', 'llm:\n  m: "say \\"hi\\": 낮" # c\n'),
        ("llm:\n  m: 'x' # c\n", "llm:\n  m: 'say \"hi\": 낮' # c\n"),
        ("llm:\n  m: x # c\n", "llm:\n  m: 'say \"hi\": 낮' # c\n"),
    ],
)
def test_a_string_keeps_the_quotes_of_the_one_before(text: str, expected: str) -> None:
    assert merge(text, {"llm": {"m": 'say "hi": 낮'}}) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [\n", "line 2"),
        ("\ta: 1\n", "cannot start any token"),
        ("a: \x00", "not valid YAML"),
        ("a: 1\n b: 2\n", "not valid YAML"),
        ("- 1\n", "a list at its top"),
        ("just words", "a single value at its top"),
        ("a: 1\n---\nb: 1\n", "2 YAML documents"),
        ("llm: 5\n", '"llm" is not a mapping'),
        ("llm: [1]\n", '"llm" is not a mapping'),
        ("llm: {}\nllm: {}\n", '"llm" stands in it twice'),
        ("llm:\n  c: 1\n  c: 2\n", '"llm.c" stands in it twice'),
        ("d: &d 5\nllm:\n  a: *d\n", '"llm.a" is an alias'),
        ("llm: &l\n  a: 5\nz: *l\n", "other parts"),
        ("d: &d\n  a: 5\nllm: *d\n", "other parts"),
        ("llm:\n  a: &a 5\nz: *a\n", "other parts"),
        ("b: |\n  x", "other parts"),
        ("llm:\n  a:\n    - 1\n    # why\n    - 2\n", "comments that would be lost"),
        ("llm: &r\n  c: *r\n", "other parts"),
        ("llm:\n  ? [1]\n  : {? {x: 1} : 1}\n", "not valid YAML"),
        ("llm: {a}\n", "without a colon"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused_with_a_way_out(text: str, says: str) -> None:
    with pytest.raises(MergeError, match=says) as refused:
        merge(text, {"llm": {"a": 1}})
    assert refused.value.hint


@pytest.mark.parametrize("key", ["<<", "!!merge k"])
def test_a_text_is_read_the_same_however_often(key: str) -> None:
    """Making the values of a ``<<`` changes the nodes, which must not be those of the next reading."""
    text = f"base: &b\n  a: 1\nllm:\n  {key}: *b\n  c: 3\n"
    expected = f"base: &b\n  a: 1\nllm:\n  {key}: *b\n  c: 3\n  d: 4\n"
    assert [merge(text, {"llm": {"a": 1, "d": 4}}) for _ in range(3)] == [expected] * 3
    assert [section(text, "llm") for _ in range(2)] == [{"a": 1, "c": 3}] * 2


def test_a_list_with_an_alias_is_refused() -> None:
    with pytest.raises(MergeError, match="alias"):
        merge("d: &d gemini\nllm:\n  fallbacks:\n    - *d\n", OURS)


@pytest.mark.parametrize("text", ["", "llm:\n", "b: 1\n"])
def test_a_section_that_is_not_there_is_empty(text: str) -> None:
    assert section(text, "llm") == {}


WORDS = st.text(st.sampled_from("abcdé낮 _-#:'\"0"), min_size=1, max_size=8)
KEYS = st.from_regex(r"[a-z]{2,6}", fullmatch=True).filter(lambda key: key != "llm")
LEAVES = st.none() | st.booleans() | st.integers() | WORDS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
MAPPINGS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=4)
COMMENTS = st.sampled_from(["", "# a note\n", "\n\n# llm: not this\n", "#\n"])
STYLES = st.sampled_from([False, True, None])


def dumped(value: dict[str, Any], style: bool | None, indent: int) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=style, indent=indent, allow_unicode=True, sort_keys=False
    )
    return text


@given(
    before=MAPPINGS,
    present=st.dictionaries(KEYS, VALUES, max_size=4),
    after=MAPPINGS,
    declared=MAPPINGS,
    comments=st.tuples(COMMENTS, COMMENTS, COMMENTS),
    style=STYLES,
    indent=st.integers(2, 5),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_foreign_stays_the_same_bytes(
    before: dict[str, Any],
    present: dict[str, Any],
    after: dict[str, Any],
    declared: dict[str, Any],
    comments: tuple[str, str, str],
    style: bool | None,
    indent: int,
    newline: str,
) -> None:
    head = (
        comments[0]
        + dumped({f"b-{key}": value for key, value in before.items()}, False, indent)
        + comments[1]
    )
    tail = comments[2] + dumped({f"a-{key}": value for key, value in after.items()}, False, indent)
    ours = yaml.safe_dump({"llm": present}, default_flow_style=style, indent=indent, allow_unicode=True)
    if not ours.startswith("llm"):
        ours = f"llm: {yaml.safe_dump(present, default_flow_style=True, width=1000, allow_unicode=True)}"
    head, ours, tail = (part.replace("\n", newline) for part in (head, ours, tail))
    merged = merge(head + ours + tail, {"llm": declared})
    assert merged.startswith(head)
    assert merged.endswith(tail)
    assert merge(merged, {"llm": declared}) == merged
    assert declared.items() <= section(merged, "llm").items() or any(
        isinstance(value, dict) for value in declared.values()
    )
