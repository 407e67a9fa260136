"""Where the files of the stack go, and a folder for them that is not there."""

from __future__ import annotations

from typing import Any

import pytest

from calm.drift.place import missing_directory
from tests.unit.drift.states import ROOT, absent, context


@pytest.mark.parametrize(
    ("docker", "folder", "there", "refused"),
    [
        ({}, f"{ROOT}/docker", False, False),
        ({"directory": "/srv/stack"}, "/srv/stack", True, False),
        ({"directory": "/srv/stack"}, "/srv/stack", False, True),
        ({"directory": "/srv/stack", "enabled": False}, "/srv/stack", False, False),
        ({"directory": f"{ROOT}/mine"}, f"{ROOT}/mine", False, False),
    ],
)
def test_a_folder_outside_the_root_has_to_be_there(
    docker: dict[str, Any], folder: str, there: bool, refused: bool
) -> None:
    entry = absent(f"{folder}/docker-compose.yml", parent_exists=there)
    refusal = missing_directory(context({"docker": docker}, {"files": {"document:compose": entry}}))
    assert (refusal is not None) is refused
    assert refusal is None or "docker.directory names /srv/stack" in refusal.message
