"""What to ask the scheduler about the load, such that groups of one cluster do not all grow for the same tasks."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable

from dask_crds import names
from dask_crds.kubernetes import Container
from dask_crds.model import DaskAutoscaler, DaskWorkerGroup
from dask_crds.quantity import parse_quantity

from .actions import Share, TargetQuestion, Worker
from .observed import ObservedAutoscaler, Pod


def target_question(o: ObservedAutoscaler, group: DaskWorkerGroup) -> TargetQuestion:
    """How many workers the load wants of ``group``, seen beside the other groups of its cluster.

    Groups that offer the same share the tasks in the order of this question: the default group first, then by name.
    """

    def place(group: DaskWorkerGroup) -> tuple[bool, str]:
        return group.name != names.default_group(group.spec.cluster), group.name

    others = sorted(o.siblings, key=lambda other: place(other.group))
    return TargetQuestion(
        group=_share(group, o.autoscaler, o.pods),
        before=tuple(_share(s.group, s.autoscaler, s.pods) for s in others if place(s.group) < place(group)),
        after=tuple(_share(s.group, s.autoscaler, s.pods) for s in others if place(s.group) > place(group)),
    )


def _share(group: DaskWorkerGroup, autoscaler: DaskAutoscaler | None, pods: Iterable[Pod]) -> Share:
    replicas = group.spec.worker.replicas
    return Share(
        workers=tuple(Worker(p.worker_name or p.name, p.ip) for p in pods if not p.deleting and not p.is_finished),
        resources=worker_resources(group),
        threads=worker_threads(group),
        minimum=autoscaler.spec.minimum if autoscaler else replicas,
        maximum=autoscaler.spec.maximum if autoscaler else replicas,
    )


def worker_resources(group: DaskWorkerGroup) -> dict[str, float]:
    """Dask resources that one worker of a group offers, from ``--resources "GPU=1 MEM=2e9"`` in its command.

    Raises nothing: what cannot be read offers nothing, as the worker itself will report it.
    """
    pairs = re.findall(r"([^\s,=]+)=(\d+\.?\d*(?:[eE][+-]?\d+)?)", _option(group, "--resources"))
    return {name: float(amount) for name, amount in pairs}


def worker_threads(group: DaskWorkerGroup) -> int:
    """Threads of one Pod of a group, as far as its manifest tells; only asked for before one has registered.

    ``--nthreads``, else what ``dask worker`` makes of the limit of CPU; 1 if there is neither.
    """
    threads, processes = _option(group, "--nthreads"), _option(group, "--nworkers")
    if threads.isdecimal() and int(threads) > 0:
        return int(threads) * max(1, int(processes) if processes.isdecimal() else 1)
    limits = (_container(group).get("resources") or {}).get("limits") or {}
    try:
        return max(1, math.ceil(parse_quantity(limits.get("cpu", "1"))))
    except ValueError:
        return 1


def _container(group: DaskWorkerGroup) -> Container:
    return group.spec.worker.spec["containers"][0]


def _option(group: DaskWorkerGroup, option: str) -> str:
    """The value of an option in a worker's command line, empty if it is not given."""
    container = _container(group)
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    split = [part for word in words for part in (_words(word) if option in word and " " in word else [word])]
    following = iter([part for word in split for part in re.split(rf"(?<=^{option})=", word)])
    return next((next(following, "") for word in following if word == option), "")


def _words(script: str) -> list[str]:
    """The words of a script that is given to a shell, as far as they can be told without one."""
    try:
        return shlex.split(script)
    except ValueError:  # unbalanced quotes, as in a comment
        return script.split()
