import pytest

from calm.drift.text import masked, unified
from calm.onhost.masking import Masker


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("POSTGRES_PASSWORD: hunter2", "POSTGRES_PASSWORD: (hidden)"),
        ("- POSTGRES_PASSWORD=hunter2", "- POSTGRES_PASSWORD=(hidden)"),
        ('{"hfToken": "hun\\"ter2", "x": 1}', '{"hfToken": "(hidden)", "x": 1}'),
        ("requirepass hunter2", "requirepass (hidden)"),
        ("url: redis://:hunter2@h:1/0", "url: redis://:(hidden)@h:1/0"),
        ("llm: {api_key: hunter2, model: x}", "llm: {api_key: (hidden), model: x}"),
        ("password: 'hunter2'  # mine", "password: '(hidden)'  # mine"),
        ("command: echo hunter2", "command: echo (hidden)"),
    ],
)
def test_a_secret_is_masked_by_its_key_and_by_its_value(line: str, shown: str) -> None:
    assert masked(line, ["hunter2"] if "command" in line else []) == shown


@pytest.mark.parametrize(
    "line",
    [
        "POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password",
        "max_tokens: 100",
        '"hfSearchToken": "",',
        "postgres_password:",
        "    file: ../secrets/postgres_password",
        "image: registry/token:1.2",
    ],
)
def test_what_is_no_secret_stays_readable(line: str) -> None:
    assert masked(f"{line}\n") == f"{line}\n"


def test_a_longer_secret_is_masked_before_one_that_it_holds() -> None:
    assert masked("x hunter2hunter2 y hunter2", ["hunter2", "hunter2hunter2"]) == "x (hidden) y (hidden)"


def test_a_value_too_short_to_mean_anything_masks_nothing() -> None:
    assert masked("a b c", ["a"]) == "a b c"


def test_a_diff_names_the_file_and_says_where_a_newline_is_missing() -> None:
    assert unified("a\nb", "a\nc\n", name="x/app.yaml") == (
        "--- x/app.yaml\n+++ x/app.yaml\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n"
    )


@pytest.mark.parametrize(
    ("before", "after", "heads"),
    [(None, "a\n", ["--- /dev/null", "+++ x"]), ("a\n", None, ["--- x", "+++ /dev/null"])],
)
def test_a_file_that_comes_or_goes(before: str | None, after: str | None, heads: list[str]) -> None:
    diff = unified(before, after, name="x")
    assert diff is not None
    assert diff.splitlines()[:2] == heads


def test_the_same_text_has_no_diff() -> None:
    assert unified("a\n", "a\n", name="x") is None


def test_no_secret_gets_into_a_diff() -> None:
    diff = unified(
        "jwt_secret: old-one\n", "jwt_secret: new-one\nother: new-one\n", name="x", secrets=["new-one"]
    )
    assert diff is not None
    assert "old-one" not in diff
    assert "new-one" not in diff


def test_a_secret_that_changes_is_seen_to_change() -> None:
    diff = unified("jwt_secret: old-one\n", "jwt_secret: new-one\n", name="x")
    assert diff is not None
    assert diff.splitlines()[-2:] == ["-jwt_secret: (hidden)", "+jwt_secret: (hidden)"]


def test_a_placeholder_of_the_probe_is_hidden_too() -> None:
    key = "ab" * 32
    before = f"api_key: {Masker(key).placeholder('hunter2')}\n"
    assert unified(before, "api_key: hunter2\n", name="x", digest_key=key) is None
    assert "calm-masked" not in str(unified(before, "a: 1\n", name="x", digest_key=key))
