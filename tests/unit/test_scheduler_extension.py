"""How a scheduler's Pod comes to load the module. What it does there: ``in_pod``."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dask_resources import scheduler_extension

ROOT = Path(__file__).parents[2]


def test_all_that_runs_in_pods_has_its_types_checked():
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["modules"]
    assert sorted(checked) == sorted(path.stem for path in (ROOT / "resources/dask_resources/in_pod").rglob("*.py"))


class TestMounted:
    """Who loads the module, and what it is told."""

    @staticmethod
    def loading(*containers):
        """The containers that load it, by name, with their variables."""
        spec = scheduler_extension.mounted({"containers": list(containers)}, "module")
        assert [c["name"] for c in spec["containers"]] == [c["name"] for c in containers]
        found = {c["name"]: {v["name"]: v.get("value") for v in c.get("env", ())} for c in spec["containers"]}
        assert all("volumeMounts" in c for c in spec["containers"] if found[c["name"]])
        return {name: env for name, env in found.items() if env}

    @pytest.mark.parametrize(
        "names", [("scheduler", "proxy"), ("proxy", "scheduler"), ("a", "scheduler", "b"), ("dask", "x")]
    )
    def test_it_is_the_scheduler_wherever_it_stands(self, names):
        """A user's sidecar may come first (controller 9)."""
        main = "scheduler" if "scheduler" in names else names[0]
        assert list(self.loading(*({"name": name, "args": ["x"]} for name in names))) == [main]

    def test_the_place_of_the_termination_message_is_told_if_it_is_another_one(self):
        variable = scheduler_extension.TERMINATION_LOG_VARIABLE
        for fields, told in [
            ({}, None),
            ({"terminationMessagePath": "/dev/termination-log"}, None),
            ({"terminationMessagePath": "/tmp/end", "terminationMessagePolicy": "FallbackToLogsOnError"}, "/tmp/end"),
            ({"terminationMessagePath": "/tmp/end", "env": [{"name": variable, "value": "/x"}]}, "/x"),
        ]:
            assert self.loading({"name": "dask", **fields})["dask"].get(variable) == told
