"""The Pods of a cluster or a job after construction, to be changed as those of cdk8s-plus are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack, cast

from cdk8s import JsonPatch

from dask_crds.kubernetes import PodSpec
from dask_resources.pod import main_container

from .keywords import Options
from .options import PodChange, PodChangeOption, RoleChanges
from .placement import Placement
from .roles import Role, dressed
from .templates import changed

if TYPE_CHECKING:
    from dask_crds.kubernetes.core_v1 import EnvVarSource
    from dask_crds.kubernetes.partial import PartialVolume

    from .resource import DaskResource
    from .values import EnvValue, Named
    from .volumes import Volume


class Pods:
    """The scheduler, the workers or the runner of a resource.

    >>> cluster.workers.mount("/data", Volume.claim("datasets"))
    >>> cluster.scheduler.schedule_on(node_selector={"pool": "on-demand"})
    >>> job.runner.add_env("MODE", "full")

    Each method changes the manifest, as all patches before have left it.
    """

    def __init__(
        self, resource: DaskResource, role: Role, path: str, accept: Callable[[dict[str, Any], type], Options]
    ) -> None:
        self._resource, self._role, self._path, self._accept = resource, role, path, accept

    @property
    def pod(self) -> PodSpec:
        """The PodSpec in the manifest, a copy."""
        return cast("PodSpec", self._template()["spec"])

    def mount(self, path: str, volume: Volume | PartialVolume | Named) -> None:
        """Mount a volume, see ``volumes`` of ``RoleChanges``."""
        self.add(volumes={path: volume})

    def add_env(self, name: str, value: str | EnvVarSource | EnvValue) -> None:
        """Set an environment variable, see ``env`` of ``RoleChanges``."""
        self.add(env={name: value})

    def schedule_on(self, **placement: Unpack[Placement]) -> None:
        """Say more of the nodes that the Pods may run on."""
        self.add(**placement)

    def add(self, **options: Unpack[RoleChanges]) -> None:
        """Add anything that can be added to Pods, see ``RoleChanges``."""
        right = self._accept(dict(options), RoleChanges)
        template = self._template()
        main = main_container(template["spec"], self._role.component)
        self._patch("spec", dressed(template["spec"], self._role._replace(container=main), right))
        for field in ("labels", "annotations"):
            if field in right:
                metadata = template.setdefault("metadata", {})
                metadata[field] = {**metadata.get(field, {}), **right[field]}
                self._patch("metadata", metadata)

    def change(self, change: PodChange) -> None:
        """Have the last word on the Pods, as ``worker_pod`` and its like have."""
        right = self._accept({"pod": change}, PodChangeOption)
        if "pod" in right:
            self._patch("spec", changed(self.pod, right, "pod"))

    def _template(self) -> dict[str, Any]:
        node = self._resource.api_object.to_json()
        for field in self._path.strip("/").split("/"):
            node = node[int(field)] if isinstance(node, list) else node[field]
        return cast("dict[str, Any]", node)

    def _patch(self, field: str, value: Any) -> None:
        self._resource.api_object.add_json_patch(JsonPatch.add(f"{self._path}/{field}", value))
