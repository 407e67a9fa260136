"""Secrets are found by key and by value, and a masked text can be put together again byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calm.onhost.errors import RefusedError
from calm.onhost.masking import HIDDEN, Masker, looks_secret, unmask

KEY = "00" * 32

STACK = """\
# old password: abc123
services:
  postgres:
    image: postgres:15-alpine
    environment:
      POSTGRES_PASSWORD: "pg 'x' pw"   # comment
      POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password
      DATABASE_URL: postgresql://agent_user:p4ss@postgres:5432/agent_system
    secrets:
      - postgres_password
    volumes: ["./secrets/postgres_password:/run/secrets/postgres_password:ro"]
  redis:
    command: redis-server --requirepass r3dis-one --appendonly no
    healthcheck:
      test: ["CMD", "redis-cli", "-a", "r3dis-two", "ping"]
    environment:
      - REDIS_PASSWORD=abc def
      - "JWT_SECRET=xyz-quoted"
      - OTHER=S3cr3t-known
      - X_PASSWORD=${REDIS_PASSWORD:?set it}
secrets:
  postgres_password:
    file: ./secrets/postgres_password
llm:
  max_tokens: 4096
  api_keys:
    gemini: gemini-key-1
    others: {a: flow-key-1, b: "flow-key-2"}
  private_key: |
    -----BEGIN KEY-----
    c0ffee
  model_key: a-model
  password: 12345
"""
SECRET = (
    "abc123", "pg 'x' pw", "p4ss", "r3dis-one", "r3dis-two", "abc def", "xyz-quoted", "S3cr3t-known",
    "gemini-key-1", "flow-key-1", "flow-key-2", "c0ffee", "12345",
)  # fmt: skip
OPEN = (
    "image: postgres:15-alpine",
    "POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password",
    "agent_user:",
    "- postgres_password\n",
    "./secrets/postgres_password:/run/secrets/postgres_password:ro",
    "${REDIS_PASSWORD:?set it}",
    "file: ./secrets/postgres_password",
    "max_tokens: 4096",
    "model_key: a-model",
    "# comment",
)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("POSTGRES_PASSWORD", True),
        ("PGPASSWORD", True),
        ("REDISCLI_AUTH", True),
        ("GEMINI_API_KEY", True),
        ("hfSearchToken", True),
        ("apiKey", True),
        ("DB_PWD", True),
        ("POSTGRES_PASSWORD_FILE", False),
        ("POSTGRES_HOST_AUTH_METHOD", False),
        ("PWD", False),
        ("model_key", False),
        ("key", False),
        ("secrets_as", False),
        ("separateReasoningContentInAPI", False),
    ],
)
def test_keys(key: str, expected: bool) -> None:
    assert looks_secret(key) is expected


def test_a_compose_file_shows_no_secret_and_all_else() -> None:
    masked, _ = Masker(KEY, ["S3cr3t-known"]).text(STACK)
    assert [secret for secret in SECRET if secret in masked] == []
    assert [text for text in OPEN if text not in masked] == []


def test_unmask_puts_every_byte_back() -> None:
    masked, originals = Masker(KEY, ["S3cr3t-known"]).text(STACK)
    assert unmask(masked, originals, "compose.yml") == STACK


def test_json_keeps_its_form_and_hides_only_strings() -> None:
    text = '{"hfSearchToken":"","hfDownloadToken":"hf_x","logIncomingTokens":false,"apiKeys":{"g":"v\\"q"}}'
    masked, originals = Masker(KEY).text(text)
    assert json.loads(masked)["logIncomingTokens"] is False
    assert json.loads(masked)["hfSearchToken"] == ""
    assert json.loads(masked)["hfDownloadToken"] == Masker(KEY).placeholder("hf_x")
    assert 'v\\"q' not in masked
    assert unmask(masked, originals, "x") == text


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0")))
def test_any_text_comes_back(text: str) -> None:
    masked, originals = Masker(KEY, ["known-secret-1"]).text(text)
    if "calm-masked-" not in text:
        assert unmask(masked, originals, "x") == text


@given(st.dictionaries(st.sampled_from(["password", "api_key", "name", "tokens"]), st.text()))
def test_any_json_stays_json_and_comes_back(document: dict[str, str]) -> None:
    text = json.dumps(document)
    masked, originals = Masker(KEY).text(text)
    assert set(json.loads(masked)) == set(document)
    assert unmask(masked, originals, "x") == text


def test_a_placeholder_that_nobody_can_fill_is_refused() -> None:
    with pytest.raises(RefusedError, match="plan again"):
        unmask("a: calm-masked-0123456789ab", {}, "app.yaml")


def test_equal_secrets_have_equal_placeholders_and_another_key_other_ones() -> None:
    assert Masker(KEY).placeholder("one") == Masker(KEY).placeholder("one") != Masker(KEY).placeholder("two")
    assert Masker("11" * 32).placeholder("one") != Masker(KEY).placeholder("one")


def test_a_password_that_is_a_plain_word_is_masked_where_it_is_one() -> None:
    masked, _ = Masker(KEY, ["postgres"]).text("image: postgres:15\nPOSTGRES_PASSWORD: postgres\n")
    assert masked.startswith("image: postgres:15\nPOSTGRES_PASSWORD: calm-masked-")


def test_messages_hide_known_secrets_and_what_programs_call_passwords() -> None:
    masker = Masker(KEY, ["hunter22"])
    assert masker.hide("it said hunter22 to redis_password: no") == f"it said {HIDDEN} to redis_password: no"
    assert masker.hide_output("DB_PASSWORD=other1 hunter22x") == f"DB_PASSWORD={HIDDEN}"
