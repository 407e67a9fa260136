from __future__ import annotations

from pathlib import Path

import pytest

from calm.atomic import replace


def test_replace_leaves_the_old_text_where_the_new_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    replace(path, "old")
    with pytest.raises(UnicodeEncodeError):
        replace(path, "\udcff")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
