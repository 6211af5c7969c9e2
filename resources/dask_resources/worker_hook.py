"""The preStop hook of workers: node drains, evictions, preemption and ``kubectl delete pod`` lose nothing.

Kubernetes calls it before SIGTERM, within the Pod's grace period. A handler of SIGTERM would not do: a shell that is
the container's first process does not pass signals on, and a Nanny that gets one ends its worker at once.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

from dask_crds.names import Component, Port

from . import security
from .pod import main_container, with_volume

#: Grace period of a Pod whose user sets none (Kubernetes' default).
DEFAULT_GRACE_SECONDS = 30

_START = 'python=$(command -v python3 || command -v python) && exec "$python" -IS -c "$0" "$@"; exit 0'
_VOLUME = "dask-gitops-security"
_PROBES = ("livenessProbe", "startupProbe")
#: Lines of the program, and types in it, that Pods do not carry.
_LEFT_OUT, _TYPE = (
    ("#", '"""', "from typing "),
    re.compile(r"(?<=[a-z]): (?:Any|str|bool)(?=[,)])|(?<=\)) -> \w+(?=:$)"),
)


@cache
def source() -> str:
    """Text of the program, without the comments, types and spaces that every Pod would carry otherwise."""
    text = (files(__package__) / "in_pod" / "worker" / "dask_gitops_prestop.py").read_text()
    _, _, code = text.removeprefix('"""').partition('"""\n')
    lines = (line.partition("  # ")[0] for line in code.splitlines() if not line.lstrip().startswith(_LEFT_OUT))
    return "".join(f"{_indented(_TYPE.sub('', line))}\n" for line in lines if line)


def _indented(line: str) -> str:
    """A line with one space for four."""
    bare = line.lstrip()
    return " " * ((len(line) - len(bare)) // 4) + bare


def with_drain(
    spec: dict[str, Any], *, host: str, worker_name: str, drain_seconds: int, secret: str | None = None
) -> dict[str, Any]:
    """A worker's PodSpec whose main container retires from the scheduler before it is stopped.

    The grace period is the drain's and what Kubernetes gives by default after it, where the user sets none; then a
    failed liveness or startup probe is still followed by a restart after the default time. A user's own ``preStop`` is
    kept as it is, and so is the whole Pod with ``drain_seconds`` 0.

    Args:
        spec: PodSpec.
        host: DNS name of the scheduler's Service.
        worker_name: the name under which the worker registers.
        drain_seconds: how long to wait for the drain.
        secret: name of the Secret with the key that it signs with; ``None`` for none.
    """
    main = main_container(spec, Component.WORKER)
    worker = next(container for container in spec["containers"] if container["name"] == main)
    lifecycle = worker.get("lifecycle") or {}
    if not drain_seconds or lifecycle.get("preStop"):
        return spec
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        spec = {**spec, "terminationGracePeriodSeconds": drain_seconds + DEFAULT_GRACE_SECONDS}
        short = {"terminationGracePeriodSeconds": DEFAULT_GRACE_SECONDS}
        worker = {**worker, **{probe: {**short, **worker[probe]} for probe in _PROBES if worker.get(probe)}}
    else:
        # What follows the hook needs some of that time, too.
        drain_seconds = min(drain_seconds, max(grace - DEFAULT_GRACE_SECONDS, grace * 3 // 4))
        if not drain_seconds:
            return spec
    command = ["sh", "-c", _START, source(), *_arguments(spec, host, worker_name, drain_seconds)]
    worker = {**worker, "lifecycle": {**lifecycle, "preStop": {"exec": {"command": command}}}}
    spec = {**spec, "containers": [worker if c["name"] == main else c for c in spec["containers"]]}
    if secret is None:
        return spec
    return with_volume(spec, main, name=_VOLUME, source=security.volume(secret), path=security.MOUNT_PATH)


def _arguments(spec: dict[str, Any], host: str, worker_name: str, drain_seconds: int) -> list[str]:
    """Those of the program. Where processes are shared, process 1 is the pause container's or even the node's."""
    pid = "0" if spec.get("hostPID") or spec.get("shareProcessNamespace") else "1"
    node = ["node"] if spec.get("hostNetwork") else []
    ports = [str(Port.DASHBOARD.number), str(Port.CONTROL.number)]
    return [host, *ports, worker_name, str(drain_seconds), pid, security.KEY_FILE, *node]
