"""Whether the Dask resources of one app agree with each other: what is seen only where all of them are in view.

What an app does not declare may be somewhere else, so a reference to it is right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dask_crds import names

Manifest = Mapping[str, Any]


class Declared(NamedTuple):
    """A resource as an app declares it."""

    path: str  #: of its construct
    manifest: Manifest

    @property
    def kind(self) -> str:
        """``kind``."""
        return str(self.manifest["kind"])

    @property
    def namespace(self) -> str:
        """``metadata.namespace``; empty where it is left to whoever applies the manifest."""
        return str(self.manifest["metadata"].get("namespace", ""))

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return str(self.manifest["metadata"].get("name", ""))

    @property
    def spec(self) -> Mapping[str, Any]:
        """``spec``."""
        return self.manifest["spec"]  # type: ignore[no-any-return]


def disagreements(app: Iterable[Declared]) -> Iterator[tuple[Declared, str]]:
    """What is wrong with each resource in view of the others, as ``field: message``."""
    declared = list(app)
    yield from _taken_names(declared)
    clusters = {(one.namespace, one.name): one for one in declared if one.kind in ("DaskCluster", "DaskJob")}
    groups = {(one.namespace, one.name): one for one in declared if one.kind == "DaskWorkerGroup"}
    autoscalers = [one for one in declared if one.kind == "DaskAutoscaler"]
    for one in (*groups.values(), *autoscalers):
        yield from _in_another_namespace(one, clusters)
    yield from _autoscalers(autoscalers, clusters, groups)
    yield from _too_few_workers(clusters.values(), autoscalers)


def _taken_names(declared: Iterable[Declared]) -> Iterator[tuple[Declared, str]]:
    first: dict[tuple[str, str, str], Declared] = {}
    for one in declared:
        other = first.setdefault((one.kind, one.namespace, one.name), one)
        if other is not one:
            yield one, f"metadata.name: {other.path} is a {one.kind} {one.name!r} already"


def _in_another_namespace(
    one: Declared, clusters: Mapping[tuple[str, str], Declared]
) -> Iterator[tuple[Declared, str]]:
    name = one.spec["cluster"]
    if (one.namespace, name) in clusters:
        return
    elsewhere = [cluster for (_, other), cluster in clusters.items() if other == name]
    if elsewhere:
        where = elsewhere[0].namespace or "no namespace"
        yield one, f"metadata.namespace: must be that of its cluster {name!r} ({where}), not {one.namespace!r}"


def _autoscalers(
    autoscalers: Iterable[Declared],
    clusters: Mapping[tuple[str, str], Declared],
    groups: Mapping[tuple[str, str], Declared],
) -> Iterator[tuple[Declared, str]]:
    of_group: dict[tuple[str, str], Declared] = {}
    for one in autoscalers:
        cluster = one.spec["cluster"]
        name = one.spec.get("workerGroup") or names.default_group(cluster)
        group = groups.get((one.namespace, name))
        other = of_group.setdefault((one.namespace, name), one)
        if other is not one:
            yield one, f"spec.workerGroup: {other.path} scales {name!r} already"
        if group is not None and group.spec["cluster"] != cluster:
            yield one, f"spec.workerGroup: {name!r} is a group of {group.spec['cluster']!r}, not of {cluster!r}"
        scaled = clusters.get((one.namespace, cluster)) if name == names.default_group(cluster) else group
        if scaled is not None and (stated := _worker(scaled).get("replicas")) is not None:
            yield one, f"{scaled.path} states {stated} workers; leave that to the autoscaler"


def _too_few_workers(clusters: Iterable[Declared], autoscalers: Iterable[Declared]) -> Iterator[tuple[Declared, str]]:
    """Jobs that wait for more workers than they ask for."""
    scaled: defaultdict[tuple[str, str], bool] = defaultdict(bool)
    for one in autoscalers:
        scaled[one.namespace, one.spec["cluster"]] = True
    for job in clusters:
        minimum = job.spec.get("minimumReadyWorkers", 0)
        stated = _stated_workers(job) if job.kind == "DaskJob" else None
        if stated is not None and minimum > stated and not scaled[job.namespace, job.name]:
            yield (
                job,
                f"spec.minimumReadyWorkers: must not exceed the number of workers ({minimum} > {stated})",
            )


def _stated_workers(cluster: Declared) -> int | None:
    """Workers of all groups that a cluster states; ``None`` if something else decides over one of their numbers."""
    spec = _cluster_spec(cluster)
    further = spec.get("workerGroups") or []
    if spec.get("autoscaler") or any(group.get("autoscaler") for group in further):
        return None
    default = spec["worker"].get("replicas")
    return None if default is None else int(default) + sum(group.get("replicas", 1) for group in further)


def _cluster_spec(one: Declared) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = one.spec["cluster"]["spec"] if one.kind == "DaskJob" else one.spec
    return spec


def _worker(one: Declared) -> Mapping[str, Any]:
    """The default group's template; a group's own."""
    return _cluster_spec(one)["worker"]  # type: ignore[no-any-return]
