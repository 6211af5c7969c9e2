"""What a Pod requests of its node: the amounts by which the kube-scheduler places it.

https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct

from dask_crds.quantity import parse_quantity

#: Containers of a Pod that are looked at: whoever writes one may write thousands.
_MOST_CONTAINERS = 64
#: Names of resources that are GPUs, or parts of one.
_GPU_ENDING, _GPU_BEGINNINGS = "/gpu", ("gpu.intel.com/", "nvidia.com/mig-")


class Requests(Struct, frozen=True, gc=False):
    """Amounts of what is shared out."""

    cpu: float = 0.0
    memory: float = 0.0  #: bytes
    gpu: float = 0.0

    def __add__(self, other: Requests) -> Requests:
        return Requests(self.cpu + other.cpu, self.memory + other.memory, self.gpu + other.gpu)

    def __or__(self, other: Requests) -> Requests:
        """The greater of each."""
        return Requests(max(self.cpu, other.cpu), max(self.memory, other.memory), max(self.gpu, other.gpu))

    def times(self, seconds: float) -> Requests:
        """That much for so long."""
        return Requests(self.cpu * seconds, self.memory * seconds, self.gpu * seconds)


NOTHING = Requests()


def requests_of(spec: Mapping[str, Any]) -> Requests:
    """The requests of a Pod by its ``spec``, whatever that holds; what is no quantity counts as nothing."""
    regular = sum((_requests(c.get("resources")) for c in _maps(spec.get("containers"))), NOTHING)
    # Init containers run one after the other, beside those sidecars that have been started by then.
    sidecars = starting = NOTHING
    for container in _maps(spec.get("initContainers")):
        asked = _requests(container.get("resources"))
        if container.get("restartPolicy") == "Always":
            sidecars += asked
            starting |= sidecars
        else:
            starting |= sidecars + asked
    total = (regular + sidecars) | starting
    whole = spec.get("resources")  # of the Pod as a whole: where it states an amount, that is the Pod's
    stated = _requests(whole)
    of_pod = Requests(stated.cpu or total.cpu, stated.memory or total.memory, total.gpu)
    return _same(of_pod + _amounts(spec.get("overhead")))


@lru_cache(maxsize=1024)
def _same(requests: Requests) -> Requests:
    """The same object for all Pods that request the same: those of a group do."""
    return requests


def _requests(resources: object) -> Requests:
    return _amounts(resources.get("requests")) if isinstance(resources, dict) else NOTHING


def _amounts(amounts: object) -> Requests:
    if not isinstance(amounts, dict) or not amounts:
        return NOTHING
    gpus = (name for name in amounts if name.endswith(_GPU_ENDING) or name.startswith(_GPU_BEGINNINGS))
    return Requests(
        _number(amounts.get("cpu")), _number(amounts.get("memory")), sum(_number(amounts[name]) for name in gpus)
    )


def _number(quantity: object) -> float:
    return _parsed(quantity) if isinstance(quantity, str | int | float) else 0.0


@lru_cache(maxsize=1024)
def _parsed(quantity: str | int | float) -> float:
    try:
        return max(0.0, float(parse_quantity(quantity)))
    except ValueError:
        return 0.0


def _maps(value: object) -> Iterable[Mapping[str, Any]]:
    return [item for item in value[:_MOST_CONTAINERS] if isinstance(item, dict)] if isinstance(value, list) else []
