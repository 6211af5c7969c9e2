"""Amounts that Pods request: CPUs, bytes of memory, GPUs and whatever else a cluster has, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from dask_crds.quantity import parse_quantity

Amounts = Mapping[str, Decimal]


def requested(pod: Mapping[str, Any]) -> dict[str, Decimal]:
    """What a scheduler of Kubernetes reserves for a Pod of that PodSpec.

    Sidecars count with the containers; other init containers run before these, one at a time, so the largest counts.
    https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
    """
    sidecars: dict[str, Decimal] = {}
    most: dict[str, Decimal] = {}
    for container in pod.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars = total((sidecars, _of(container)))
        else:
            most = _larger(most, total((sidecars, _of(container))))
    running = total((sidecars, *(_of(container) for container in pod.get("containers") or ())))
    whole = pod.get("resources") or {}
    # Of the Pod's own limits those count of which no container requests anything (KEP 2837).
    of_pod = {**_read(whole.get("limits")), **_larger(most, running), **_read(whole.get("requests"))}
    return total((of_pod, _read(pod.get("overhead"))))


def _of(container: Mapping[str, Any]) -> dict[str, Decimal]:
    """Requests of a container: limits where none are stated."""
    resources = container.get("resources") or {}
    return _read(resources.get("limits")) | _read(resources.get("requests"))


def _read(amounts: Mapping[str, Any] | None) -> dict[str, Decimal]:
    return {name: parse_quantity(quantity) for name, quantity in (amounts or {}).items()}


def _larger(one: Amounts, other: Amounts) -> dict[str, Decimal]:
    return {name: max(one.get(name, Decimal()), other.get(name, Decimal())) for name in {**one, **other}}


def total(amounts: Iterable[Amounts]) -> dict[str, Decimal]:
    """The sum."""
    found: dict[str, Decimal] = {}
    for each in amounts:
        for name, amount in each.items():
            found[name] = found.get(name, Decimal()) + amount
    return found


def times(number: int, amounts: Amounts) -> dict[str, Decimal]:
    """The amounts for so many Pods."""
    return {name: number * amount for name, amount in amounts.items()}


def quantity(name: str, amount: Decimal) -> str:
    """An amount as people write it: ``1.5`` CPUs, ``4Gi`` of memory."""
    if name == "cpu" or not amount:
        return _plain(amount)
    for power, suffix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if amount >= 1024**power and _is_bytes(name):
            return f"{_plain(round(amount / 1024**power, 1))}{suffix}"
    return _plain(amount)


def _is_bytes(name: str) -> bool:
    return name in ("memory", "ephemeral-storage") or name.startswith("hugepages-")


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
