"""What a cluster, and a job with its cluster, have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Unpack, cast

from .expose import DaskExposure, ExposeOptions
from .keywords import Options
from .monitoring.construct import DaskClusterMonitor, MonitorOptions
from .options import PodOptions
from .pods import Pods
from .resource import DaskResource
from .roles import SCHEDULER, WORKER
from .security import add_certificates
from .spot import off_spot


class WithScheduler(DaskResource):
    """A resource with a scheduler of its own, which is named after it, and workers."""

    def _declare(self, spec: Callable[[Options], Mapping[str, Any]], options: Options) -> None:
        super()._declare(spec, options)
        add_certificates(self, options.get("security"), self._stem, self.namespace)

    @property
    def scheduler(self) -> Pods:
        """The scheduler's Pod."""
        return self._pods(SCHEDULER)

    @property
    def workers(self) -> Pods:
        """The workers of the default group."""
        return self._pods(WORKER)

    def scheduler_template(self) -> Mapping[str, Any]:
        """What the manifest says of the scheduler and its Service, as all patches have left it."""
        node: Any = self.api_object.to_json()
        for field in self.ROLES[SCHEDULER].strip("/").split("/"):
            node = node.get(field) or {}
        return cast("Mapping[str, Any]", node)

    @property
    def _shared(self) -> Options:
        """What was said of all Pods, which further groups take over."""
        return {name: value for name, value in self._options.items() if name in PodOptions.__annotations__}

    def _keep_off_spot(self, spot: str | None) -> None:
        """Keep all but workers away from such nodes, which a further group runs on, see ``spot.Spot``."""
        if spot is not None:
            for role in self.ROLES.keys() - {WORKER}:
                self._pods(role).change(lambda pod: off_spot(pod, spot))

    def expose(self, id: str = "dashboard", **options: Unpack[ExposeOptions]) -> DaskExposure:
        """Publish the dashboard by an Ingress or a HTTPRoute, named ``<name>-<id>``, see ``ExposeOptions``."""
        return DaskExposure(self, id, cluster=self, namespace=self.namespace, **options)

    def monitor(self, id: str = "metrics", **options: Unpack[MonitorOptions]) -> DaskClusterMonitor:
        """Have Prometheus scrape scheduler and workers, by PodMonitors beside them, see ``MonitorOptions``."""
        return DaskClusterMonitor(self, id, cluster=self, namespace=self.namespace, **options)
