"""Further workers of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Required, Unpack

from constructs import Construct

from dask_crds import names
from dask_crds.model import DaskWorkerGroupSpec, dump

from . import templates
from .autoscaler import DaskAutoscaler, ScalingOptions, autoscaler_of
from .keywords import Options
from .options import WorkerOptions
from .origins import Manifest
from .pods import Pods
from .resource import DaskResource, Exact, Metadata
from .roles import WORKER
from .values import Cluster, Text


class WorkerGroupOptions(WorkerOptions, Metadata, total=False):
    """Keyword arguments of ``DaskCluster.add_worker_group``."""


class WorkerGroupProps(WorkerGroupOptions, total=False):
    """Keyword arguments of ``DaskWorkerGroup``."""

    cluster: Required[Cluster]
    """The cluster that they join, or its name."""
    image: Required[Text]
    """Container image with dask and distributed."""


class DaskWorkerGroup(DaskResource):
    """Further workers for a cluster, of their own size and kind."""

    KIND = "DaskWorkerGroup"
    LONGEST_NAME = names.MAX_GROUP_NAME
    ROLES = {WORKER: "/spec/worker"}

    def __init__(self, scope: Construct, id: str, **props: Unpack[WorkerGroupProps]) -> None:
        """Declare it with the keyword arguments of ``WorkerGroupProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, WorkerGroupProps)
        self._declare(_spec, options)

    @property
    def workers(self) -> Pods:
        """The workers of the group."""
        return self._pods(WORKER)

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskWorkerGroupSpec | Mapping[str, Any], **metadata: Unpack[Metadata]
    ) -> DaskWorkerGroup:
        """A worker group exactly as ``spec`` says: a struct, or a mapping, which may be a whole manifest."""
        return _ExactWorkerGroup(scope, id, spec, metadata)

    def _look(self, manifest: Manifest) -> list[str]:
        name, cluster = manifest["metadata"]["name"], manifest["spec"].get("cluster", "")
        is_taken = name == names.default_group(cluster)
        taken = [f"metadata.name: {name!r} is the default group of {cluster!r}"] if is_taken else []
        return [*super()._look(manifest), *taken]

    def autoscale(self, **options: Unpack[ScalingOptions]) -> DaskAutoscaler:
        """Let the group follow the load, see ``ScalingOptions``."""
        return autoscaler_of(self, options, self)


def _spec(options: Options) -> dict[str, Any]:
    return dump(DaskWorkerGroupSpec(cluster=options.get("cluster", ""), worker=templates.worker(options)))


class _ExactWorkerGroup(Exact, DaskWorkerGroup):
    pass
