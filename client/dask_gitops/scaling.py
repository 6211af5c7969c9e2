"""The number of workers of a group: set by hand, or left to a DaskAutoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_crds import names
from dask_crds.model import MAX_WORKERS

from .access import Access
from .errors import Governed


def group_name(cluster: str, group: str) -> str:
    """Name of the DaskWorkerGroup that is meant by a group's name within its cluster, or by its whole name."""
    return group if group.startswith(f"{cluster}-") else names.worker_group(cluster, group)


def autoscaler_of(group: str, cluster: str, autoscalers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The oldest DaskAutoscaler that sets the number of workers of a group.

    Args:
        group: name of the DaskWorkerGroup.
        cluster: name of its cluster.
        autoscalers: those of the namespace.
    """
    governing = [
        each
        for each in autoscalers
        if each["spec"].get("cluster") == cluster
        and (each["spec"].get("workerGroup") or names.default_group(cluster)) == group
        and "deletionTimestamp" not in each["metadata"]
    ]
    return min(governing, key=lambda each: str(each["metadata"].get("creationTimestamp")), default=None)


def is_stated(manifest: Mapping[str, Any]) -> bool:
    """Whether an object is a child that a cluster states itself: what is changed about it is put right again."""
    return any(owner.get("controller") for owner in manifest["metadata"].get("ownerReferences") or ())


async def scale(access: Access, cluster: str, workers: int, group: str, *, at_least: bool = False) -> int:
    """Ask for a number of workers.

    Args:
        access: way to the API server.
        cluster: name of the DaskCluster.
        workers: how many.
        group: name within the cluster.
        at_least: leave a greater number as it is.

    Returns:
        The number that is asked for now.

    Raises:
        Governed: a DaskAutoscaler decides.
        ValueError: not a number of workers.
        MissingRight: to read or to write the scale of the group.
    """
    if not 0 <= workers <= MAX_WORKERS:
        raise ValueError(f"workers: {workers} is not between 0 and {MAX_WORKERS}")
    name = group_name(cluster, group)
    governing = autoscaler_of(name, cluster, await access.all("DaskAutoscaler"))
    if governing is not None:
        raise Governed(f"{_named(governing)} sets the number of workers of {name}, {_bounds(governing)}: {_CHANGE_IT}")
    present = int((await access.get("DaskWorkerGroup", name, subresource="scale"))["spec"].get("replicas") or 0)
    if present == workers or (at_least and present > workers):
        return present
    await access.patch("DaskWorkerGroup", name, {"spec": {"replicas": workers}}, subresource="scale")
    return workers


_CHANGE_IT = "change its bounds (cluster.adapt), or delete it"


async def adapt(access: Access, cluster: Mapping[str, Any], minimum: int, maximum: int, group: str) -> str:
    """Let a group follow the load within bounds, by a DaskAutoscaler that goes with the cluster.

    Args:
        access: way to the API server.
        cluster: manifest of the DaskCluster.
        minimum: least number of workers.
        maximum: greatest number.
        group: name within the cluster.

    Returns:
        Name of the DaskAutoscaler.

    Raises:
        Governed: the cluster's manifest states the bounds.
        ValueError: bounds that leave nothing between them.
        MissingRight: to create the DaskAutoscaler, or to change it.
    """
    if not 0 <= minimum <= maximum <= MAX_WORKERS:
        raise ValueError(f"minimum {minimum} and maximum {maximum} are not bounds between 0 and {MAX_WORKERS}")
    of = str(cluster["metadata"]["name"])
    name = group_name(of, group)
    wanted = {"minimum": minimum, "maximum": maximum}
    governing = autoscaler_of(name, of, await access.all("DaskAutoscaler"))
    if governing is None:
        made = await access.create("DaskAutoscaler", autoscaler(cluster, name, wanted))
        return str(made["metadata"]["name"])
    if is_stated(governing):
        raise Governed(f"the manifest of {of} states the bounds of {name}, {_bounds(governing)}: change them in Git")
    await access.patch("DaskAutoscaler", governing["metadata"]["name"], {"spec": wanted})
    return str(governing["metadata"]["name"])


def autoscaler(cluster: Mapping[str, Any], group: str, wanted: Mapping[str, int]) -> dict[str, Any]:
    """Manifest of a DaskAutoscaler that is deleted with its cluster.

    Args:
        cluster: manifest of the DaskCluster.
        group: name of the DaskWorkerGroup.
        wanted: ``minimum`` and ``maximum``.
    """
    of = cluster["metadata"]
    owner = {"apiVersion": names.API_VERSION, "kind": "DaskCluster", "name": of["name"], "uid": of["uid"]}
    default = group == names.default_group(of["name"])
    return {
        "apiVersion": names.API_VERSION,
        "kind": "DaskAutoscaler",
        "metadata": {"name": of["name"] if default else group, "ownerReferences": [owner]},
        "spec": {"cluster": of["name"], "workerGroup": group, **wanted},
    }


def _named(autoscaler: Mapping[str, Any]) -> str:
    return f"DaskAutoscaler {autoscaler['metadata']['name']}"


def bounds(autoscaler: Mapping[str, Any]) -> tuple[int, int]:
    """Least and greatest number of workers of a DaskAutoscaler."""
    spec = autoscaler["spec"]
    return spec.get("minimum") or 0, spec.get("maximum", MAX_WORKERS)


def _bounds(autoscaler: Mapping[str, Any]) -> str:
    return "from {} to {}".format(*bounds(autoscaler))
