import pytest

from calm.drift.merge import changes, joined, leaves, masked_same, plain_same
from calm.drift.model import Json, Origin
from calm.onhost.masking import Masker

KEY = "00ff" * 8


@pytest.mark.parametrize(
    ("present", "wanted", "answer"),
    [
        (30, 30.0, True),
        (1, True, False),
        (0, False, False),
        ([1, {"a": 2}], [1, {"a": 2.0}], True),
        ([1], [True], False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ("1", 1, False),
        (None, None, True),
        (["a"], "a", False),
    ],
)
def test_equality_is_that_of_json(present: Json, wanted: Json, answer: bool) -> None:
    assert plain_same(present, wanted) is answer


def test_a_placeholder_counts_as_the_secret_that_it_stands_for() -> None:
    same = masked_same(KEY)
    shown = Masker(KEY).placeholder("hunter2")
    assert same(shown, "hunter2")
    assert same(shown, shown)
    assert not same(shown, "another")
    assert not same(shown, 5)


def test_a_change_has_the_path_both_values_and_who_moved() -> None:
    declared = {"a": {"b": 1, "c": 2, "d": 3}, "e": [1]}
    recorded = {"a.b": 1, "a.c": 9, "a.d": 3}
    found = changes({"a": {"b": 5, "c": 9, "d": 3}}, declared, recorded, same=plain_same)
    assert [(change.path, change.before, change.after, change.origin) for change in found] == [
        ("a.b", 5, 1, Origin.HOST),
        ("a.c", 9, 2, Origin.SETTINGS),
        ("e", None, [1], Origin.NEW),
    ]


def test_a_declared_null_that_is_missing_is_a_change() -> None:
    assert changes({}, {"a": None}, {}, same=plain_same)[0].path == "a"
    assert changes({"a": None}, {"a": None}, {}, same=plain_same) == ()


def test_a_change_of_a_secret_is_sensitive() -> None:
    (change,) = changes({"hfToken": "old"}, {"hfToken": "new"}, {}, same=plain_same)
    assert change.to_json() == {"path": "hfToken", "before": None, "after": None, "sensitive": True}


def test_leaves_open_mappings_and_keep_lists() -> None:
    found = list(leaves({"a": {"b.c": {"d": 1}, "e": {}}, "f": [1]}))
    assert found == [(("a", "b.c", "d"), 1), (("a", "e"), {}), (("f",), [1])]


def test_a_deep_merge_replaces_what_is_no_mapping() -> None:
    assert joined({"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2]}, "d": {}}) == {
        "a": {"b": 1, "c": [2]},
        "d": {},
    }
