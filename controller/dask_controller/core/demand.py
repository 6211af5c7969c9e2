"""What to ask the scheduler about the load, so that groups of one cluster do not all grow for the same tasks."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Iterator

from dask_crds import names
from dask_crds.kubernetes import Container
from dask_crds.model import MAX_WORKERS, DaskAutoscaler, DaskWorkerGroup
from dask_crds.names import Component
from dask_crds.quantity import parse_quantity
from dask_resources.pod import limits_of, main_container

from .observed import ObservedAutoscaler
from .pod import Pod
from .questions import Claim, Target
from .scaling_rules import bounds

#: Characters of a script or of an option's value that are read. A longer script is split at its spaces, because the
#: time for ``shlex`` grows with the square of a word's length, and this is done at every look at an autoscaler.
_LONGEST_TEXT = 8192
#: Greatest number that is believed.
_MOST = 10**6
_DASK_CUDA = re.compile(r"(?:^|/)dask-cuda-worker$|^cuda$")  # `dask cuda worker` is three words
_AMOUNT = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")


def target_question(o: ObservedAutoscaler, group: DaskWorkerGroup) -> Target:
    """How many workers the load wants of ``group``, seen beside the other groups of its cluster.

    Groups that offer the same share the tasks in the order of this question: the default group first, then by name.
    """

    def place(group: DaskWorkerGroup) -> tuple[bool, str]:
        return group.name != names.default_group(group.spec.cluster), group.name

    others = sorted(o.siblings, key=lambda other: place(other.group))
    return Target(
        group=_claim(group, o.autoscaler, o.pods),
        before=tuple(_claim(s.group, s.autoscaler, s.pods) for s in others if place(s.group) < place(group)),
        after=tuple(_claim(s.group, s.autoscaler, s.pods) for s in others if place(s.group) > place(group)),
    )


def _claim(group: DaskWorkerGroup, autoscaler: DaskAutoscaler | None, pods: Iterable[Pod]) -> Claim:
    replicas = min(group.spec.worker.size, MAX_WORKERS)
    minimum, maximum = bounds(autoscaler.spec) if autoscaler else (replicas, replicas)
    return Claim(
        workers=tuple(p.worker_id for p in pods if not p.deleting and not p.is_finished),
        resources=worker_resources(group),
        threads=worker_threads(group),
        processes=worker_processes(group),
        minimum=minimum,
        maximum=maximum,
    )


def worker_resources(group: DaskWorkerGroup) -> dict[str, float]:
    """Dask resources that one worker of a group offers, from ``--resources "GPU=1 MEM=2e9"`` in its command.

    Raises nothing: what cannot be read offers nothing, as the worker itself will report it.
    """
    offered = {}
    for pair in re.split(r"[\s,]+", _option(group, "--resources")[:_LONGEST_TEXT]):
        name, _, written = pair.strip("'\"").partition("=")  # of quotes where no shell has taken them away
        amount = _AMOUNT.match(written)
        if name and amount and math.isfinite(number := float(amount[0])):
            offered[name] = number
    return offered


def worker_threads(group: DaskWorkerGroup) -> int:
    """Threads of one Pod of a group, as far as its manifest tells; only asked for before one has registered.

    ``--nthreads``, else what ``dask worker`` makes of the limit of CPU, its own or its Pod's; 1 if there is none.
    """
    if threads := _number(_option(group, "--nthreads")):
        return threads * worker_processes(group)
    limits = limits_of(_container(group), group.spec.worker.spec)
    try:
        return max(1, min(_MOST, math.ceil(parse_quantity(limits.get("cpu", "1")))))
    except ValueError:
        return 1


def worker_processes(group: DaskWorkerGroup) -> int:
    """Worker processes of one Pod, likewise: ``--nworkers``, with dask-cuda the GPUs, else 1."""
    container = _container(group)
    if not any(_DASK_CUDA.search(word[:_LONGEST_TEXT]) for word in _words(container, "cuda")):
        return max(1, _number(_option(group, "--nworkers")))
    limits = (container.get("resources") or {}).get("limits") or {}
    gpus = (str(amount) for resource, amount in limits.items() if resource.startswith("nvidia.com/"))
    return max(1, min(_MOST, sum(map(_number, gpus))))


# --- the command line -------------------------------------------------------------------------------------------------


def _number(text: str) -> int:
    """The number in digits; 0 for what is none, ``auto`` say."""
    digits = text.lstrip("0")
    return 0 if not digits.isdecimal() else _MOST if len(digits) >= len(str(_MOST)) else int(digits)


def _container(group: DaskWorkerGroup) -> Container:
    spec = group.spec.worker.spec
    name = main_container(spec, Component.WORKER)
    return next(container for container in spec["containers"] if container["name"] == name)


def _option(group: DaskWorkerGroup, option: str) -> str:
    """The value of an option in a worker's command line, empty if it is not given."""
    words = _words(_container(group), option)
    for word in words:
        if word == option:
            return next(words, "")
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return ""


def _words(container: Container, option: str) -> Iterator[str]:
    """The words of a container's command line; scripts that are given to a shell are taken apart where it matters."""
    for word in [*(container.get("command") or []), *(container.get("args") or [])]:
        if option in word and " " in word:
            yield from _split(word)
        else:
            yield word


def _split(script: str) -> list[str]:
    """The words of a script, as far as they can be told without a shell."""
    try:
        return shlex.split(script) if len(script) <= _LONGEST_TEXT else script.split()
    except ValueError:  # unbalanced quotes, as in a comment
        return script.split()
