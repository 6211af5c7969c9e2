"""Where the demo runs: on kind only where that and Docker work."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster import kind


@pytest.mark.parametrize(
    ("programs", "works"),
    [
        ({"kind": 0, "docker": 0}, True),
        ({"kind": 0, "docker": 1}, False),  # no daemon, or not ours to use
        ({"docker": 0}, False),
        ({"kind": 0}, False),
        ({}, False),
    ],
)
def test_kind_is_used_where_it_and_docker_work(
    programs: dict[str, int], works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, status in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kind.works() is works
