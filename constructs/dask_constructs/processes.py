"""The worker processes of a Pod: each has its share of the Pod's CPUs, memory and GPUs.

Every process is a worker of its own to Dask, and takes ``--nthreads``, ``--memory-limit`` and ``--resources`` for
itself (distributed 2026.8, ``dask worker --nworkers``). dask-cuda starts one for each GPU and has no ``--nworkers``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from dask_crds.quantity import parse_quantity
from dask_resources.pod import limits_of

from .keywords import Options, Problem

#: Bytes of a worker's container that are not the worker's: its nanny and the resource tracker take 60 MiB
#: (distributed 2026.8), the rest is for the kernel. The nanny acts at 95 % of what is left, which adds headroom that
#: grows with the worker.
RESERVED_MEMORY = 128 * 2**20
_MEBIBYTE = 2**20
#: The part of a disk that workers fill; beyond it they pause, instead of being evicted or finding no space.
_SPILLED = Fraction(95, 100)


def is_dask_cuda(command: Sequence[str]) -> bool:
    """Whether a command line starts dask-cuda, which has one process for each GPU."""
    programs = [PurePosixPath(word).name for word in command]
    return "dask-cuda-worker" in programs or ("dask cuda worker" in " ".join(programs))


def number(options: Options) -> int:
    """Worker processes of a Pod."""
    if is_dask_cuda(options.get("worker_command", ())):
        return max(1, int(options.get("gpus", options.get("processes", 1))))
    return int(options.get("processes", 1))


def sizes(options: Options) -> list[str]:
    """What the worker's program is told of its processes and of their size."""
    processes = number(options)
    several = processes > 1 and not is_dask_cuda(options.get("worker_command", ()))
    threads = options.get("threads", whole_cores(options.get("cores", "1"), processes))
    return [
        *(("--nworkers", str(processes)) if several else ()),
        *("--nthreads", str(threads)),
        *("--memory-limit", str(worker_memory_limit(options.get("memory", "2Gi"), processes))),
    ]


def offers(options: Options) -> list[str]:
    """What the worker's program is told of the Dask resources of each process."""
    gpus = options.get("gpus", 0) // number(options)
    offered = ({"GPU": gpus} if gpus else {}) | dict(options.get("worker_resources", {}))
    return ["--resources", ",".join(f"{name}={amount}" for name, amount in offered.items())] if offered else []


def whole_cores(cores: str, processes: int = 1) -> int:
    """Threads of each process: together as many as run all the time without being throttled, at least one each."""
    return max(1, int(parse_quantity(cores)) // processes)


def worker_memory_limit(memory: str, processes: int = 1) -> int:
    """Bytes for the data of each worker process in a container of ``memory``.

    Less than the container's limit, because nanny and kernel count against that too: reaching it ends in the kernel's
    OOM killer, while the worker spills, pauses and restarts in good order at its own limit. Of small containers a
    quarter is held back.
    """
    total = int(parse_quantity(memory)) // processes
    limit = total - min(RESERVED_MEMORY, total // 4)
    return limit // _MEBIBYTE * _MEBIBYTE or limit


def most_spilled(options: Options) -> int:
    """Bytes that each process writes to a disk of ``spill`` at most."""
    return int(int(parse_quantity(options["spill"])) * _SPILLED) // number(options)


# --- what users have changed since -----------------------------------------------------------------------------------

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_BYTES = re.compile(rf"{_NUMBER}([kMGTP]i?)?")


def contradictions(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[Problem]:
    """What a worker's command line says and its container does not have, as the container's field and a message.

    Only what would be wrong anywhere; a shell's command line is not looked into.

    Args:
        container: the worker's.
        pod: the PodSpec that it is of.
    """
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    limits = limits_of(container, pod)
    told = {option: _last(words, option) for option in ("--memory-limit", "--nthreads", "--nworkers", "--resources")}
    gpus = sum(int(parse_quantity(amount)) for name, amount in limits.items() if _is_gpu(name))
    count = max(1, gpus) if is_dask_cuda(words) else int(told["--nworkers"]) if told["--nworkers"].isdecimal() else 1
    each = f" in each of {count} processes" if count > 1 else ""
    data, memory = _in_bytes(told["--memory-limit"]), limits.get("memory")
    if data and memory is not None and data * count > parse_quantity(memory):
        whose = "container" if "memory" in ((container.get("resources") or {}).get("limits") or {}) else "Pod"
        message = f"--memory-limit {told['--memory-limit']}{each} exceeds the {whose}'s memory ({memory})"
        yield ".args", message + ("; say processes, which divides it" if count > 1 else "")
    if told["--nthreads"] == "0":
        yield ".args", "--nthreads 0 takes as many threads as the node has CPUs: say at least 1"
    offered = re.search(rf"(?:^|[ ,])GPU=({_NUMBER})(?:$|[ ,])", told["--resources"])
    if gpus and offered and float(offered[1]) * count != gpus:
        yield ".args", f"--resources GPU={offered[1]}{each} does not agree with the container's GPUs ({gpus})"


def _last(words: Sequence[str], option: str) -> str:
    """The value that a program takes of an option which may be given several times; empty if there is none."""
    value = ""
    for word, following in pairwise([*words, ""]):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


def _in_bytes(written: str) -> int | None:
    """Bytes as Dask reads them (``6GiB``, ``6e9``); ``None`` for what depends on the machine, and for no limit."""
    text = written.strip().removesuffix("B")
    return int(parse_quantity(text)) if _BYTES.fullmatch(text) and (text.isdecimal() or text[-1].isalpha()) else None


def _is_gpu(resource: str) -> bool:
    return resource.startswith("nvidia.com/") or resource.endswith("/gpu")
