"""The four kinds as constructs, each in a short form (the constructor) and an exact one (``from_spec``)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Unpack, cast

from constructs import Construct
from msgspec import Struct

from dask_crds import names
from dask_crds.model import (
    AutoscalerBehavior,
    DaskAutoscalerSpec,
    DaskClusterSpec,
    DaskJobSpec,
    DaskWorkerGroupSpec,
    ScalingRules,
    dump,
)
from dask_resources import templates
from dask_resources.revision import revision

from .manifest import DaskResource, Metadata, Validation


class ClusterProps(templates.ClusterOptions, Metadata, total=False):
    """Keyword arguments of ``DaskCluster``."""


class WorkerGroupProps(templates.WorkerOptions, Metadata, total=False):
    """Keyword arguments of ``DaskWorkerGroup``."""


class JobProps(templates.JobOptions, Metadata, total=False):
    """Keyword arguments of ``DaskJob``."""


class DaskWorkerGroup(DaskResource):
    """Further workers for a cluster, of their own size and kind.

    Args:
        cluster: the cluster that they join, or its name.
        image: container image with dask and distributed.
        props: see ``dask_resources.templates.WorkerOptions`` and ``Metadata``.
    """

    KIND = "DaskWorkerGroup"

    def __init__(
        self, scope: Construct, id: str, *, cluster: DaskCluster | str, image: str, **props: Unpack[WorkerGroupProps]
    ) -> None:
        check_keywords(props, WorkerGroupProps)
        with named(scope, id):
            spec = dump(DaskWorkerGroupSpec(cluster=_name(cluster), worker=templates.worker(image, props)))
        state_replicas(spec["worker"], props)
        super().__init__(scope, id, spec, props)

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskWorkerGroupSpec, **metadata: Unpack[Metadata]
    ) -> DaskWorkerGroup:
        """A worker group exactly as ``spec`` says."""
        return _ExactWorkerGroup(scope, id, spec, metadata)

    def problems(self) -> list[str]:
        """What is wrong with the manifest; besides what is wrong with any, the name may be taken."""
        found, cluster = super().problems(), self.spec["cluster"]
        if self.name == names.default_group(cluster):
            found.append(f"metadata.name: {self.name!r} is the default group of {cluster!r}")
        return found

    def autoscale(
        self,
        *,
        minimum: int = 0,
        maximum: int | None = None,
        scale_up_window: int | None = None,
        scale_down_window: int | None = None,
    ) -> DaskAutoscaler:
        """Let the group follow the load, see ``DaskAutoscaler``."""
        return _autoscale(self, minimum, maximum, scale_up_window, scale_down_window, worker_group=self)


class DaskCluster(DaskResource):
    """A scheduler, its Service and a default group of workers.

    >>> cluster = DaskCluster(chart, "c", name="analytics", image="ghcr.io/dask/dask:2026.8.0", cores=2, memory="8Gi")
    >>> cluster.add_worker_group("big", memory="64Gi", worker_resources={"BIG": 1})
    >>> cluster.autoscale(minimum=0, maximum=20)

    Args:
        image: container image with dask and distributed, for scheduler and workers.
        props: see ``dask_resources.templates.ClusterOptions`` and ``Metadata``.
    """

    KIND = "DaskCluster"

    def __init__(self, scope: Construct, id: str, *, image: str, **props: Unpack[ClusterProps]) -> None:
        check_keywords(props, ClusterProps)
        with named(scope, id):
            spec = dump(templates.cluster_spec(image, props))
        state_replicas(spec["worker"], props)
        super().__init__(scope, id, spec, props)
        self._shared = cast("WorkerGroupProps", _selected(props, templates.PodOptions))

    @property
    def scheduler_address(self) -> str:
        """Address for ``distributed.Client`` from within the Kubernetes cluster."""
        service = names.scheduler(self.name)
        host = service if self.namespace is None else f"{service}.{self.namespace}"
        return f"tcp://{host}:{names.COMM_PORT_NUMBER}"

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskClusterSpec, **metadata: Unpack[Metadata]
    ) -> DaskCluster:
        """A cluster exactly as ``spec`` says."""
        return _ExactCluster(scope, id, spec, metadata)

    def add_worker_group(
        self, id: str, *, image: str | None = None, **props: Unpack[WorkerGroupProps]
    ) -> DaskWorkerGroup:
        """Add workers of another size or kind, named ``<cluster>-<id>`` unless ``name`` says otherwise.

        Image, namespace, environment, user and what else ``PodOptions`` has are the cluster's where left out.
        """
        image = image or self.spec["worker"]["spec"]["containers"][0].get("image", "")
        inherited = self._shared.copy()
        inherited["name"] = f"{self.name}-{id}"
        if self.namespace is not None:
            inherited["namespace"] = self.namespace
        inherited.update(props)
        return DaskWorkerGroup(self, id, cluster=self, image=image, **inherited)

    def autoscale(
        self,
        *,
        minimum: int = 0,
        maximum: int | None = None,
        scale_up_window: int | None = None,
        scale_down_window: int | None = None,
    ) -> DaskAutoscaler:
        """Let the default group follow the load, see ``DaskAutoscaler``."""
        return _autoscale(self, minimum, maximum, scale_up_window, scale_down_window)


class DaskJob(DaskResource):
    """A program that runs to completion beside its own cluster.

    >>> DaskJob(chart, "report", image="registry/report:1.4", command=["python", "-m", "report"], workers=8)

    Args:
        image: container image with dask and distributed, for runner, scheduler and workers.
        command: the program; ``distributed.Client()`` without arguments finds the cluster.
        run_once: append a hash of the spec to the name. Then a changed spec is another job, which a GitOps tool that
            prunes puts in the place of the old one, and nothing else makes it run again. To run the same job again
            instead, give it a new ``run_id``.
        props: see ``dask_resources.templates.JobOptions`` and ``Metadata``.
    """

    KIND = "DaskJob"

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        image: str,
        command: Sequence[str],
        run_once: bool = False,
        **props: Unpack[JobProps],
    ) -> None:
        check_keywords(props, JobProps)
        with named(scope, id):
            spec = dump(templates.job_spec(image, command, props))
        state_replicas(spec["cluster"]["spec"]["worker"], props)
        if run_once:
            props["name"] = f"{props.get('name', id)}-{revision(spec)}"
        super().__init__(scope, id, spec, props)

    @classmethod
    def from_spec(cls, scope: Construct, id: str, *, spec: DaskJobSpec, **metadata: Unpack[Metadata]) -> DaskJob:
        """A job exactly as ``spec`` says."""
        return _ExactJob(scope, id, spec, metadata)


class DaskAutoscaler(DaskResource):
    """Bounds within which a worker group follows the load.

    Args:
        cluster: the cluster, or its name.
        minimum: least number of workers.
        maximum: greatest number of workers; left out, there is no bound but the API's (200,000).
        worker_group: the group, or its name (default: the cluster's default group).
        scale_up_window: seconds of past recommendations of which the lowest is taken (default 0).
        scale_down_window: seconds of past recommendations of which the highest is taken (default 60).
        metadata: see ``Metadata``.
    """

    KIND = "DaskAutoscaler"

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        cluster: DaskCluster | str,
        minimum: int = 0,
        maximum: int | None = None,
        worker_group: DaskWorkerGroup | str | None = None,
        scale_up_window: int | None = None,
        scale_down_window: int | None = None,
        **metadata: Unpack[Metadata],
    ) -> None:
        check_keywords(metadata, Metadata)
        up, down = _rules(scale_up_window), _rules(scale_down_window)
        spec = DaskAutoscalerSpec(
            cluster=_name(cluster),
            minimum=minimum,
            maximum=maximum,
            worker_group=None if worker_group is None else _name(worker_group),
            behavior=AutoscalerBehavior(scale_up=up, scale_down=down) if up or down else None,
        )
        super().__init__(scope, id, _with_minimum(spec), metadata)

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskAutoscalerSpec, **metadata: Unpack[Metadata]
    ) -> DaskAutoscaler:
        """An autoscaler exactly as ``spec`` says."""
        return _ExactAutoscaler(scope, id, spec, metadata)


# --- the exact form ---------------------------------------------------------------------------------------------------


class _Exact(DaskResource):
    """Constructor of the exact form, put before that of the short form."""

    def __init__(self, scope: Construct, id: str, spec: Struct, metadata: Metadata) -> None:
        check_keywords(metadata, Metadata)
        DaskResource.__init__(self, scope, id, dump(spec), metadata)


class _ExactCluster(_Exact, DaskCluster):
    _shared: WorkerGroupProps = {}


class _ExactWorkerGroup(_Exact, DaskWorkerGroup):
    pass


class _ExactJob(_Exact, DaskJob):
    pass


class _ExactAutoscaler(_Exact, DaskAutoscaler):
    def __init__(self, scope: Construct, id: str, spec: DaskAutoscalerSpec, metadata: Metadata) -> None:
        check_keywords(metadata, Metadata)
        DaskResource.__init__(self, scope, id, _with_minimum(spec), metadata)


# --- parts ------------------------------------------------------------------------------------------------------------


def _autoscale(
    scaled: DaskCluster | DaskWorkerGroup,
    minimum: int,
    maximum: int | None,
    scale_up_window: int | None,
    scale_down_window: int | None,
    worker_group: DaskWorkerGroup | None = None,
) -> DaskAutoscaler:
    """An autoscaler below what it scales, named like it (so that ``KubeCluster.adapt`` finds a cluster's)."""
    metadata: Metadata = {"name": scaled.name}
    if scaled.namespace is not None:
        metadata["namespace"] = scaled.namespace
    autoscaler = DaskAutoscaler(
        scaled,
        "autoscaler",
        cluster=scaled.name if worker_group is None else worker_group.spec["cluster"],
        minimum=minimum,
        maximum=maximum,
        worker_group=worker_group,
        scale_up_window=scale_up_window,
        scale_down_window=scale_down_window,
        **metadata,
    )

    def one_owner() -> list[str]:
        stated = scaled.api_object.to_json()["spec"]["worker"].get("replicas")
        return [] if stated is None else [f"{scaled.node.path} states {stated} workers; leave that to the autoscaler"]

    autoscaler.node.add_validation(Validation(one_owner))
    return autoscaler


def _with_minimum(spec: DaskAutoscalerSpec) -> dict[str, Any]:
    """The spec with its minimum, which ``dump`` leaves out if it is 0: what Git leaves out, others may change."""
    return {"cluster": spec.cluster, "minimum": spec.minimum, **dump(spec)}


@contextmanager
def named(scope: Construct, id: str) -> Iterator[None]:
    """Put the construct's path in front of what is wrong with its arguments."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"[{scope.node.path}/{id}] {error}") from None


def _rules(window: int | None) -> ScalingRules | None:
    return None if window is None else ScalingRules(stabilization_window_seconds=window)


def _name(resource: DaskResource | str) -> str:
    return resource if isinstance(resource, str) else resource.name


def state_replicas(worker: dict[str, Any], options: templates.WorkerOptions) -> None:
    """Write ``replicas: 1`` where it was asked for, which ``dump`` leaves out as the API's default.

    Stated in Git it is reverted to 1, left out it may be scaled.
    """
    workers = options.get("workers")
    if workers is not None:
        worker["replicas"] = workers


def _selected(options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    return {name: options[name] for name in kind.__annotations__ if name in options}


def check_keywords(given: Mapping[str, Any], props: type) -> None:
    """Refuse unknown keyword arguments, as Python itself does where they are not declared by a TypedDict."""
    known = props.__annotations__
    for name in given:
        if name not in known:
            similar = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {similar[0]!r}?" if similar else ""
            raise TypeError(f"unexpected keyword argument {name!r}{hint}")
