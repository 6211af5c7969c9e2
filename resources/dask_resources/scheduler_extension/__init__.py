"""The module that runs inside the scheduler, and how a scheduler Pod comes to load it.

See ``docs/decisions/0003-scheduler-extension.md``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

MODULE = "dask_gitops_scheduler.py"
MOUNT_PATH = "/etc/dask-gitops"
PRELOAD_VARIABLE = "DASK_DISTRIBUTED__SCHEDULER__PRELOAD"
PRELOAD_ARGV_VARIABLE = "DASK_DISTRIBUTED__SCHEDULER__PRELOAD_ARGV"

_VOLUME = "dask-gitops"


@cache
def source() -> str:
    """Text of the module."""
    return files(__package__).joinpath(MODULE).read_text()


def mounted(spec: dict[str, Any], config_map: str) -> dict[str, Any]:
    """A scheduler's PodSpec whose first container preloads the module from ``config_map``.

    Preloading is asked for through the environment, where the user's own list is kept. A ``--preload`` on the command
    line replaces that list (``distributed.cli.dask_scheduler``), so there the module is added as another one.
    """
    scheduler, *others = spec["containers"]
    mount = {"name": _VOLUME, "mountPath": MOUNT_PATH, "readOnly": True}
    scheduler = {
        **scheduler,
        "env": _with_preload(scheduler.get("env") or []),
        "volumeMounts": [*(scheduler.get("volumeMounts") or []), mount],
    }
    for field in ("command", "args"):
        if scheduler.get(field):
            scheduler[field] = _with_preload_option(scheduler[field])
    volume = {"name": _VOLUME, "configMap": {"name": config_map}}
    return {**spec, "containers": [scheduler, *others], "volumes": [*(spec.get("volumes") or []), volume]}


def _path() -> str:
    return f"{MOUNT_PATH}/{MODULE}"


def _with_preload_option(words: list[str]) -> list[str]:
    """A command line with our module preloaded too, if it preloads something."""
    for at, word in enumerate(words):
        if word == "--preload" or word.startswith("--preload="):
            return [*words[:at], "--preload", _path(), *words[at:]]
    return words


def _with_preload(env: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The environment with our module preloaded after those that the user names in the same variable."""
    names = {variable["name"] for variable in env}
    if PRELOAD_VARIABLE not in names:
        env = [*env, {"name": PRELOAD_VARIABLE, "value": json.dumps([_path()])}]
        # One list of arguments for each module, or one for all: a nested list in the image's configuration would no
        # longer match, and end the scheduler (distributed.preloading.process_preloads).
        argv = [] if PRELOAD_ARGV_VARIABLE in names else [{"name": PRELOAD_ARGV_VARIABLE, "value": "[]"}]
        return [*env, *argv]
    return [_extended(variable) for variable in env]


def _extended(variable: dict[str, Any]) -> dict[str, Any]:
    """The user's own variable with ours appended; one from a ConfigMap or Secret is theirs to decide."""
    if variable["name"] not in (PRELOAD_VARIABLE, PRELOAD_ARGV_VARIABLE) or not variable.get("value"):
        return variable
    try:
        listed = json.loads(variable["value"])
    except ValueError:
        listed = [variable["value"]]
    listed = listed if isinstance(listed, list) else [listed]
    if variable["name"] == PRELOAD_VARIABLE:
        return {**variable, "value": json.dumps([*listed, _path()])}
    nested = any(isinstance(item, list) for item in listed)
    return {**variable, "value": json.dumps([*listed, []])} if nested else variable
