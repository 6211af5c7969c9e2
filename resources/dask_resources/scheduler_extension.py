"""What is added to a scheduler's Pod, so that the scheduler loads the files in ``in_pod/scheduler``.

See ``docs/decisions/0003-scheduler-extension.md``.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from dask_crds.names import Component, Port

from . import security
from .pod import main_container, with_volume

MODULE = "dask_gitops_scheduler.py"  #: the file that is preloaded; it imports those beside it
MOUNT_PATH = "/etc/dask-gitops"
PRELOAD_VARIABLE = "DASK_DISTRIBUTED__SCHEDULER__PRELOAD"
PRELOAD_ARGV_VARIABLE = "DASK_DISTRIBUTED__SCHEDULER__PRELOAD_ARGV"
#: Where the module notes that a client has ended the scheduler, if Kubernetes is to look in another place than usual.
TERMINATION_LOG_VARIABLE = "DASK_GITOPS_TERMINATION_LOG"
_DEFAULT_TERMINATION_LOG = "/dev/termination-log"

#: Where the module finds the key, and the port that it opens if there is one.
KEY_FILE_VARIABLE = "DASK_GITOPS_KEY_FILE"
PORT_VARIABLE = "DASK_GITOPS_PORT"
#: Where the module has a scheduler with TLS listen at the loopback as well.
LOOPBACK_PORT_VARIABLE = "DASK_GITOPS_LOOPBACK_PORT"

#: Characters of a list in Python's own form that is read: a longer one may exhaust the parser.
_LONGEST_LITERAL = 4096

_VOLUME, _SECURITY_VOLUME = "dask-gitops", "dask-gitops-security"


@cache
def sources() -> Mapping[str, str]:
    """The module and the files that it imports: texts by name."""
    folder = files(__package__) / "in_pod" / "scheduler"
    found = {file.name: file.read_text() for file in folder.iterdir() if file.name.endswith(".py")}
    return dict(sorted(found.items()))


def mounted(spec: dict[str, Any], config_map: str) -> dict[str, Any]:
    """A scheduler's PodSpec whose main container preloads the module from ``config_map``.

    Preloading is requested through the environment, and the user's own list there is kept. A ``--preload`` on the
    command line replaces that list (``distributed.cli.dask_scheduler``), so there the module is added as another one.
    """
    main = main_container(spec, Component.SCHEDULER)
    containers = [_without_control_port(c) for c in spec["containers"]]
    spec = {**spec, "containers": [_preloading(c) if c["name"] == main else c for c in containers]}
    return with_volume(spec, main, name=_VOLUME, source={"configMap": {"name": config_map}}, path=MOUNT_PATH)


def with_key(spec: dict[str, Any], secret: str) -> dict[str, Any]:
    """A scheduler's PodSpec whose main container has the key from ``secret``, and a port for orders that it signs.

    The port's name is the sign of that: by it the operator knows that this scheduler can prove who it is.
    """
    main, number = main_container(spec, Component.SCHEDULER), control_port(spec)
    port = {"name": Port.CONTROL.name, "containerPort": number, "protocol": "TCP"}
    told = {KEY_FILE_VARIABLE: security.KEY_FILE, PORT_VARIABLE: str(number)}

    def listening(scheduler: dict[str, Any]) -> dict[str, Any]:
        return {**_told(scheduler, told), "ports": [port, *(scheduler.get("ports") or ())]}

    spec = {**spec, "containers": [listening(c) if c["name"] == main else c for c in spec["containers"]]}
    return with_volume(spec, main, name=_SECURITY_VOLUME, source=security.volume(secret), path=security.MOUNT_PATH)


def _without_control_port(container: dict[str, Any]) -> dict[str, Any]:
    """A container of a template that was copied from a Pod of ours, say: the port would be taken for the module's."""
    ports = container.get("ports") or []
    theirs = [port for port in ports if port.get("name") != Port.CONTROL.name]
    return container if theirs == ports else {**container, "ports": theirs}


def control_port(spec: Mapping[str, Any]) -> int:
    """The port for orders of a scheduler that does not have one yet: the first from 8788 on that is free."""
    taken = declared_ports(spec)
    return next(number for number in range(Port.CONTROL.number, 2**16) if number not in taken)


def declared_ports(spec: Mapping[str, Any]) -> set[int]:
    """Numbers of the ports that containers of a PodSpec state, sidecars among the ``initContainers`` included."""
    containers = [*spec["containers"], *(spec.get("initContainers") or ())]
    return {port["containerPort"] for container in containers for port in container.get("ports") or ()}


def with_loopback(spec: dict[str, Any], port: int) -> dict[str, Any]:
    """A scheduler's PodSpec whose module has the scheduler listen for plain TCP at the Pod's loopback."""
    main, told = main_container(spec, Component.SCHEDULER), {LOOPBACK_PORT_VARIABLE: str(port)}
    return {**spec, "containers": [_told(c, told) if c["name"] == main else c for c in spec["containers"]]}


def _told(scheduler: dict[str, Any], told: Mapping[str, str]) -> dict[str, Any]:
    """A container with variables that are ours alone."""
    theirs = [variable for variable in scheduler.get("env") or () if variable["name"] not in told]
    return {**scheduler, "env": [*theirs, *({"name": name, "value": value} for name, value in told.items())]}


def _preloading(scheduler: dict[str, Any]) -> dict[str, Any]:
    scheduler = {**scheduler, "env": [*_with_preload(scheduler.get("env") or []), *_termination_log(scheduler)]}
    for field in ("command", "args"):
        if scheduler.get(field):
            scheduler[field] = _with_preload_option(scheduler[field])
    return scheduler


def _termination_log(scheduler: dict[str, Any]) -> list[dict[str, Any]]:
    """A variable that names the file which the user has chosen for termination messages, if any."""
    path = scheduler.get("terminationMessagePath", _DEFAULT_TERMINATION_LOG)
    taken = any(variable["name"] == TERMINATION_LOG_VARIABLE for variable in scheduler.get("env") or ())
    chosen = path and path != _DEFAULT_TERMINATION_LOG and not taken
    return [{"name": TERMINATION_LOG_VARIABLE, "value": path}] if chosen else []


def _path() -> str:
    return f"{MOUNT_PATH}/{MODULE}"


def _with_preload_option(words: list[str]) -> list[str]:
    """A command line that preloads our module as well, if it preloads anything."""
    for at, word in enumerate(words):
        if word == "--preload" or word.startswith("--preload="):
            return [*words[:at], "--preload", _path(), *words[at:]]
    return words


def _with_preload(env: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The environment, with our module preloaded after those that the user names in the same variable."""
    taken = {variable["name"] for variable in env}
    if PRELOAD_VARIABLE not in taken:
        env = [*env, {"name": PRELOAD_VARIABLE, "value": json.dumps([_path()])}]
        # One list of arguments for each module, or one for all: a nested list in the image's configuration would no
        # longer match, and end the scheduler (distributed.preloading.process_preloads).
        argv = [] if PRELOAD_ARGV_VARIABLE in taken else [{"name": PRELOAD_ARGV_VARIABLE, "value": "[]"}]
        return [*env, *argv]
    return [_extended(variable) for variable in env]


def _extended(variable: dict[str, Any]) -> dict[str, Any]:
    """The user's own variable with ours appended; one from a ConfigMap or Secret is theirs to decide."""
    if variable["name"] not in (PRELOAD_VARIABLE, PRELOAD_ARGV_VARIABLE) or variable.get("valueFrom"):
        return variable
    listed = _listed(variable.get("value") or "")
    if variable["name"] == PRELOAD_VARIABLE:
        return {**variable, "value": json.dumps([*listed, _path()])}
    nested = any(isinstance(item, list) for item in listed)
    return {**variable, "value": json.dumps([*listed, []])} if nested else variable


def _listed(text: str) -> list[Any]:
    """The list that Dask finds in a variable: a literal of Python, else a text (``dask.config.interpret_value``)."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = json.loads(json.dumps(ast.literal_eval(text if len(text) <= _LONGEST_LITERAL else "")))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            found = None if text.lower() == "none" else text
    return found if isinstance(found, list) else [found] if found else []
