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
        if "--preload" in (scheduler.get(field) or []):
            at = scheduler[field].index("--preload")
            scheduler[field] = [*scheduler[field][:at], "--preload", _path(), *scheduler[field][at:]]
            break
    volume = {"name": _VOLUME, "configMap": {"name": config_map}}
    return {**spec, "containers": [scheduler, *others], "volumes": [*(spec.get("volumes") or []), volume]}


def _path() -> str:
    return f"{MOUNT_PATH}/{MODULE}"


def _with_preload(env: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The environment with our module preloaded after those that the user names in the same variable."""
    mine = next((variable for variable in env if variable["name"] == PRELOAD_VARIABLE), None)
    if mine is None:
        return [*env, {"name": PRELOAD_VARIABLE, "value": json.dumps([_path()])}]
    value = mine.get("value")
    if not value:
        return env  # from a ConfigMap or Secret: theirs to decide
    try:
        listed = json.loads(value)
    except ValueError:
        listed = [value]
    merged = [*(listed if isinstance(listed, list) else [listed]), _path()]
    return [{**v, "value": json.dumps(merged)} if v is mine else v for v in env]
