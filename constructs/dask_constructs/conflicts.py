"""Keyword arguments of one construct that do not go with each other."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from dask_crds.quantity import parse_quantity

from . import processes
from .keywords import Options, Problem
from .roles import RUNNER, SCHEDULER, WORKER, Role

#: Options that say something only beside another.
_NEEDS = {"gpu_resource": "gpus", "spill_storage_class": "spill"}


def conflicts(options: Options) -> Iterator[Problem]:
    """What is wrong with keyword arguments in view of the others, each of which is right by itself.

    Args:
        options: those that were checked; any may be missing.

    Returns:
        The keyword, and what would be right.
    """
    yield from _processes(options)
    for option, other in _NEEDS.items():
        if option in options and not options.get(other):
            yield option, f"says nothing without {other}"
    if options.get("worker_update") == "OnDelete":
        for option in ("max_surge", "max_unavailable"):
            if option in options:
                yield option, "says nothing beside worker_update='OnDelete'"
    if options.get("delete_cluster") == "Never" and "deletion_delay" in options:
        yield "deletion_delay", "says nothing beside delete_cluster='Never'"
    for role in (SCHEDULER, WORKER, RUNNER):
        yield from _container_names(role, options.get(f"{role.keyword}_pod"))


def _processes(options: Options) -> Iterator[Problem]:
    count, gpus, cores = processes.number(options), options.get("gpus", 0), options.get("cores", "1")
    if options.get("processes", count) != count:
        yield "processes", f"dask-cuda has one process for each GPU ({count}): leave it out"
    elif gpus % count:
        yield "processes", f"must divide the GPUs evenly ({gpus} GPUs, {count} processes)"
    elif count > max(1, int(parse_quantity(cores))) and "threads" not in options:
        stated = "gpus" if "processes" not in options else "processes"
        yield stated, f"{count} processes share {cores} CPUs: raise cores, or say how many threads each has"
    offered = options.get("worker_resources", {}).get("GPU")
    if gpus and offered is not None and offered * count != gpus:
        yield "worker_resources['GPU']", f"must be {gpus / count:g} in each process, as gpus says: leave it out"


def _container_names(role: Role, change: object) -> Iterator[Problem]:
    """Containers that a change means to change, and that do not exist: a new one has an image."""
    containers = change.get("containers") if isinstance(change, Mapping) else None
    for number, container in enumerate(containers or ()):
        name = container.get("name")
        if name != role.container and not container.get("image"):
            meant = difflib.get_close_matches(str(name), [role.container], n=1, cutoff=0.5)
            hint = (
                f"did you mean {role.container!r}?" if meant else f"Dask's is {role.container!r}, others need an image"
            )
            yield f"{role.keyword}_pod.containers[{number}].name", f"there is no container {name!r}; {hint}"
