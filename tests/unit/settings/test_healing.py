from __future__ import annotations

import pytest

from calm.settings.healing import RULES, Healing, Rules


def test_the_rules_by_name() -> None:
    assert RULES == (
        "lmstudio-duplicated",
        "lmstudio-runaway",
        "lmstudio-memory",
        "lmstudio-leaking",
        "lmstudio-api-down",
        "model-idle",
        "model-duplicated",
        "watched-process",
        "container-unhealthy",
        "container-stopped",
        "container-crash-looping",
        "container-oom-killed",
        "container-throttled",
        "container-near-limit",
        "disk-low",
        "junk",
        "schedule-late",
    )
    assert all(Rules()[name].do in ("act", "report") for name in RULES)


def test_a_rule_is_set_by_one_word_or_by_its_thresholds() -> None:
    healing = Healing.model_validate(
        {"rules": {"junk": "off", "disk-low": {"do": "report", "free_percent": 5}}}
    )
    assert healing.rules["junk"].do == "off"
    assert healing.rules.junk.size == 5 * 1024**3
    assert healing.rules.disk_low.free_percent == 5
    assert healing.rules["model-idle"].do == "act"


def test_an_unknown_rule_is_no_rule() -> None:
    with pytest.raises(KeyError, match="disk_low"):
        Rules()["disk_low"]


def test_memory_and_want_of_memory_are_told_and_not_acted_on() -> None:
    rules = Rules()
    assert {
        rules[name].do for name in ("lmstudio-memory", "container-oom-killed", "container-near-limit")
    } == {"report"}


def test_lm_support_is_looked_at_alone() -> None:
    (watched,) = Healing().watched
    assert (watched.name, watched.do) == ("LM_Support", "report")


def test_a_process_is_acted_on_by_its_full_path() -> None:
    entry = {"name": "LM_Support", "do": "act", "path": "C:\\Program Files (x86)\\ASUS\\LM_Support.exe"}
    (watched,) = Healing.model_validate({"watched": [entry]}).watched
    assert watched.path == entry["path"]
