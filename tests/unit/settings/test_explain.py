from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from calm.settings.load import Layer, SettingsError, load

CASES = yaml.safe_load((Path(__file__).parent / "bad_input.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["said"].split(": ")[0])
def test_bad_input_is_refused_in_one_clear_line(case: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        load([Layer(source="inventories/local.py", data=case["given"])], host="here")
    assert str(caught.value) == f"inventories/local.py: {case['said']}"
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"
