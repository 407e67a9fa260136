import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calm.drift.json_merge import merge, parse
from calm.drift.merge import MergeError

LM_STUDIO = """{
  "language": "ko",
  "autoLoadBundledLLM": true,
  "developer": {
    "jitModelTTL": {
      "enabled": true,
      "ttlSeconds": 3600
    },
    "unknown": [1, 2,   3]
  },
  "폴더": "/모델",
  "ratio": 1.10
}
"""

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DECLARED = st.dictionaries(NAMES, VALUES, max_size=4)
INDENTS = st.sampled_from([None, 1, 2, 4, "\t"])


def joined(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    out = dict(lower)
    for key, value in upper.items():
        both = isinstance(out.get(key), dict) and isinstance(value, dict)
        out[key] = joined(out[key], value) if both else value
    return out


def test_only_the_value_that_differs_is_replaced() -> None:
    merged = merge(
        LM_STUDIO, {"autoLoadBundledLLM": False, "developer": {"jitModelTTL": {"ttlSeconds": 3600}}}
    )
    assert merged == LM_STUDIO.replace('"autoLoadBundledLLM": true', '"autoLoadBundledLLM": false')


def test_a_new_key_goes_behind_the_last_one_in_the_manner_of_its_object() -> None:
    merged = merge(LM_STUDIO, {"developer": {"jitModelTTL": {"mode": {"한": "글"}}}})
    expected = '      "ttlSeconds": 3600,\n      "mode": {\n        "한": "글"\n      }\n'
    assert merged == LM_STUDIO.replace('      "ttlSeconds": 3600\n', expected)


@pytest.mark.parametrize(
    ("text", "declared", "expected"),
    [
        ('{"a":1}', {"b": 2}, '{"a":1, "b":2}'),
        ('{"a":1,"c":3}', {"b": {"x": 1}}, '{"a":1,"c":3,"b":{"x": 1}}'),
        ('{ "a" : 1, "c" : 3 }', {"b": 2}, '{ "a" : 1, "c" : 3, "b" : 2 }'),
        ('{\r\n\t"a": 1\r\n}\r\n', {"b": [1]}, '{\r\n\t"a": 1,\r\n\t"b": [\r\n\t\t1\r\n\t]\r\n}\r\n'),
        ("{}", {"a": 1}, '{\n  "a": 1\n}'),
        ("{ }\n", {"a": {}}, '{\n  "a": {}\n}\n'),
        ('{"a": "\\u00e9"}', {"a": "ü"}, '{"a": "\\u00fc"}'),
        ('\ufeff{"a": 1}', {"a": 2}, '\ufeff{"a": 2}'),
        ('{"a": 1e2, "b": 1}', {"a": 100, "b": True}, '{"a": 1e2, "b": true}'),
        ('{"a": [1]}', {"a": {"b": 1}}, '{"a": {"b": 1}}'),
    ],
)
def test_the_manner_of_the_text_is_kept(text: str, declared: dict[str, Any], expected: str) -> None:
    assert merge(text, declared) == expected
    assert merge(expected, declared) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ('{"a": 1,}', "not valid JSON"),
        ("// note\n{}", "not valid JSON"),
        ('{"a": NaN}', "NaN"),
        ("[1]", "a list"),
        ("null", "a single value"),
        ('{"a": {"b": 1, "b": 2}}', '"a.b" stands in it twice'),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_no_object_is_refused_with_a_way_out(text: str, says: str) -> None:
    with pytest.raises(MergeError, match=says) as refused:
        merge(text, {"a": {"b": 3}})
    assert refused.value.hint


@given(present=DECLARED, declared=DECLARED, indent=INDENTS, ascii_only=st.booleans())
def test_the_result_means_old_plus_ours_and_a_second_merge_changes_nothing(
    present: dict[str, Any], declared: dict[str, Any], indent: Any, ascii_only: bool
) -> None:
    text = json.dumps(present, indent=indent, ensure_ascii=ascii_only)
    merged = merge(text, declared)
    assert parse(merged) == joined(present, declared)
    assert merge(merged, declared) == merged


@given(present=DECLARED, indent=INDENTS, value=st.integers())
def test_foreign_keys_stay_the_same_bytes(present: dict[str, Any], indent: Any, value: int) -> None:
    text = json.dumps({"before": 1, **present, "ours": "x", "after": 2}, indent=indent, ensure_ascii=False)
    head, _, tail = text.rpartition('"ours"')
    merged = merge(text, {"ours": value})
    assert merged == head + '"ours"' + tail.replace('"x"', str(value), 1)
