"""Whether the Dask resources of one app agree with each other: what is seen only where all of them are in view.

What an app does not declare may be somewhere else, so a reference to it is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from dask_crds import names
from dask_crds.model import DaskCluster, DaskJob, parse
from dask_resources.cluster import children
from dask_resources.job import job_cluster

from .origins import Call, Manifest, cluster_spec, findings, with_origins, worker_templates


class Declared(NamedTuple):
    """A resource as an app declares it."""

    path: str  #: of its construct
    manifest: Manifest
    calls: Sequence[Call]  #: what has made it

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


def disagreements(app: Sequence[Declared]) -> Iterator[tuple[Declared, str]]:
    """What is wrong with each resource in view of the others, as ``field: message``, keywords before it."""
    found = [*_disagreements(app)]
    wrong = {id(one) for one, _ in found}
    for at, one in enumerate(app):
        if id(one) in wrong:
            lines = [problem for other, problem in found if other is one]
            for line in with_origins(lines, one.calls, partial(_findings_among, app, at)):
                yield one, line


def _findings_among(app: Sequence[Declared], at: int, manifest: Manifest) -> Iterator[str]:
    """What is wrong with a manifest by itself and in the place of one of the app's."""
    other = app[at]._replace(manifest=manifest)
    yield from findings(manifest)
    yield from (problem for one, problem in _disagreements([*app[:at], other, *app[at + 1 :]]) if one is other)


def _disagreements(declared: Sequence[Declared]) -> Iterator[tuple[Declared, str]]:
    yield from _taken_names(declared)
    clusters = {(one.namespace, one.name): one for one in declared if one.kind in ("DaskCluster", "DaskJob")}
    groups = {(one.namespace, one.name): one for one in declared if one.kind == "DaskWorkerGroup"}
    autoscalers = [one for one in declared if one.kind == "DaskAutoscaler"]
    for one in (*groups.values(), *autoscalers):
        yield from _in_another_namespace(one, clusters)
    yield from _autoscalers(autoscalers, clusters, groups)
    yield from _too_few_workers(clusters.values(), autoscalers)


def _taken_names(declared: Iterable[Declared]) -> Iterator[tuple[Declared, str]]:
    """Names that two want, for themselves or for what is made of them: the operator would find a NameConflict."""
    first: dict[tuple[str, str, str], Declared] = {}
    told: set[tuple[str, str]] = set()
    for one in declared:
        other = first.setdefault((one.kind, one.namespace, one.name), one)
        if other is not one:
            told.add((other.path, one.path))
            yield one, f"metadata.name: {other.path} is a {one.kind} {one.name!r} already"
    for one in declared:
        for kind, name in _made_of(one):
            other = first.setdefault((kind, one.namespace, name), one)
            pair = min(one.path, other.path), max(one.path, other.path)
            if other is one or pair in told or _is_default(other):
                continue
            told.add(pair)
            if (other.kind, other.name) == (kind, name):
                yield other, f"metadata.name: the {kind} {name!r} is made of {one.path}"
            else:
                yield one, f"metadata.name: its {kind} would have the name of one of {other.path}: {name!r}"


def _made_of(one: Declared) -> Iterator[tuple[str, str]]:
    """Kind and name of all that the operator makes of a resource."""
    value = parse(dict(one.manifest))
    if isinstance(value, DaskJob):
        yield from (("DaskCluster", value.name), ("Job", names.runner(value.name)))
        value = parse(job_cluster(value))
    if isinstance(value, DaskCluster):
        yield from ((child.kind, child.name) for child in children(value))


def _is_default(one: Declared) -> bool:
    """Whether it has the name of its own cluster's default group, which it tells itself."""
    return one.kind == "DaskWorkerGroup" and one.name == names.default_group(one.spec["cluster"])


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
        if scaled is not None and (stated := cluster_spec(scaled.manifest)["worker"].get("replicas")) is not None:
            yield one, f"{scaled.path} states {stated} workers; leave that to the autoscaler"


def _too_few_workers(clusters: Iterable[Declared], autoscalers: Iterable[Declared]) -> Iterator[tuple[Declared, str]]:
    """Jobs that wait for more workers than they ask for."""
    scaled = {(one.namespace, one.spec["cluster"]) for one in autoscalers}
    for one in clusters:
        if (one.namespace, one.name) not in scaled:
            yield from ((one, problem) for problem in too_few_workers(one.manifest))


def too_few_workers(manifest: Manifest) -> Iterator[str]:
    """Whether a job waits for more workers than it asks for, if nothing but its manifest decides over their number."""
    (_, default), *further = worker_templates(manifest)
    minimum, stated = manifest["spec"].get("minimumReadyWorkers") or 0, default.get("replicas")
    cluster = cluster_spec(manifest)
    if stated is None or cluster.get("autoscaler") or any(group.get("autoscaler") for _, group in further):
        return
    workers = stated + sum(group.get("replicas", 1) for _, group in further)
    if minimum > workers:
        yield f"spec.minimumReadyWorkers: must not exceed the number of workers ({minimum} > {workers})"
