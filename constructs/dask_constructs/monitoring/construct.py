"""What Prometheus, Alertmanager and Grafana get, as the objects that prometheus-operator and Grafana's sidecar read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Required, TypedDict, Unpack

from constructs import Construct
from msgspec import Meta

from dask_crds.names import Component, Label

from ..manifest import api_object
from ..operator_pod import LABELS, NAME
from ..resource import DaskConstruct
from ..values import ClusterOrJob, Namespace, Secret, Text
from .alerts import AlertThresholds, groups
from .dashboards import dashboards
from .scraping import API_VERSION, pod_monitor, service_monitor

#: Where people find what to do about an alert.
RUNBOOKS = "https://github.com/dask-gitops/dask-gitops/blob/main/docs/runbooks.md"
#: By which the sidecar of Grafana finds dashboards, as kube-prometheus-stack sets it up.
_DASHBOARD_LABELS = {"grafana_dashboard": "1"}


class MonitorOptions(TypedDict, total=False):
    """Keyword arguments of ``monitor``."""

    labels: Mapping[Text, str] | None
    """Labels by which a Prometheus selects its monitors: ``{"release": "kube-prometheus-stack"}``, say."""
    interval: Annotated[int, Meta(ge=1, le=3600)] | None
    """Seconds from one scrape to the next (default 30)."""


class ClusterMonitorProps(MonitorOptions, total=False):
    """Keyword arguments of ``DaskClusterMonitor``."""

    cluster: Required[ClusterOrJob]
    """The cluster, or its name; or the job whose cluster it is."""
    namespace: Text | None
    """Its namespace; left out, that of the chart."""


class DaskClusterMonitor(DaskConstruct):
    """Scrapes scheduler and workers of one cluster, by PodMonitors beside it.

    >>> cluster.monitor(labels={"release": "kube-prometheus-stack"})

    For where there is no ``DaskMonitoring`` that scrapes all of them: with both, each series is there twice. Containers
    need a port named ``http-dashboard``, as the short form gives them.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[ClusterMonitorProps]) -> None:
        """Declare it with the keyword arguments of ``ClusterMonitorProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, ClusterMonitorProps)
        cluster = options.get("cluster", "cluster")
        where = {"namespace": options["namespace"]} if "namespace" in options else {}
        for plural, component in _SCRAPED.items():
            labels = {**options.get("labels", {}), Label.CLUSTER: cluster}
            metadata = {"name": f"{cluster}-{plural}", "labels": labels, **where}
            manifest = {"apiVersion": API_VERSION, "kind": "PodMonitor", "metadata": metadata}
            api_object(self, plural, {**manifest, "spec": pod_monitor(component, options, cluster=cluster)})


class MonitoringProps(MonitorOptions, total=False):
    """Keyword arguments of ``DaskMonitoring``."""

    namespace: Namespace | None
    """Where the operator runs, and where all of it is put (default ``dask-operator``)."""
    namespaces: Annotated[Sequence[Namespace], Meta(min_length=1)] | None
    """Namespaces whose clusters are scraped (default: all)."""
    clusters: bool | None
    """Whether schedulers and workers are scraped (default true); false where each cluster has a ``monitor()``."""
    metrics_tls: Secret | None
    """That of ``DaskOperator``, also with ``ca.crt``: Prometheus believes the operator by it (default: plain HTTP)."""
    metrics_token: Secret | None
    """A Secret in ``namespace`` whose key ``token`` shows the operator who asks (default: the token of Prometheus' own
    ServiceAccount, which not every Prometheus gives away)."""
    rules: bool | None
    """Whether recording rules and alerts are part of it (default true)."""
    thresholds: AlertThresholds | None
    """From where on alerts are told, ``{"job_waits": 3600}`` say."""
    runbooks: Text | None
    """URL of your own copy of the page of runbooks, which each alert links to (default: that of the project)."""
    dashboards: bool | None
    """Whether the dashboards are part of it (default true)."""
    dashboard_labels: Mapping[Text, str] | None
    """Labels by which Grafana's sidecar finds dashboards (default ``{"grafana_dashboard": "1"}``)."""
    dashboard_folder: Text | None
    """Folder of Grafana, by the annotation ``grafana_folder`` (default ``Dask``)."""


class DaskMonitoring(DaskConstruct):
    """Metrics, alerts and dashboards of operator and clusters: monitors, a PrometheusRule, and ConfigMaps.

    >>> DaskMonitoring(chart, "monitoring", labels={"release": "kube-prometheus-stack"})

    It needs the CRDs of prometheus-operator. Prometheus must be let in: ``metrics_namespaces`` of ``DaskOperator``,
    ``DaskTenant`` and ``DaskNetworkPolicy``.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[MonitoringProps]) -> None:
        """Declare it with the keyword arguments of ``MonitoringProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, MonitoringProps)
        self._namespace: str = options.get("namespace", NAME)
        self._selected = options.get("labels", {})
        self._monitor("operator", "ServiceMonitor", NAME, service_monitor(options, self._namespace))
        if options.get("clusters", True):
            for plural, component in _SCRAPED.items():
                self._monitor(plural, "PodMonitor", f"dask-{plural}", pod_monitor(component, options))
        if options.get("rules", True):
            thresholds, runbooks = options.get("thresholds", {}), options.get("runbooks", RUNBOOKS)
            spec = {"groups": groups(runbooks, self._namespace, thresholds)}
            self._monitor("rules", "PrometheusRule", NAME, spec)
        if options.get("dashboards", True):
            labels = options.get("dashboard_labels", _DASHBOARD_LABELS)
            self._dashboards(labels, options.get("dashboard_folder", "Dask"))

    def _monitor(self, id: str, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        metadata = {"name": name, "namespace": self._namespace, "labels": {**LABELS, **self._selected}}
        api_object(self, id, {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})

    def _dashboards(self, labels: Mapping[str, str], folder: str) -> None:
        for dashboard in dashboards():
            metadata = {
                "name": f"{dashboard.uid}-dashboard",
                "namespace": self._namespace,
                "labels": {**LABELS, **labels},
                "annotations": {"grafana_folder": folder},
            }
            data = {f"{dashboard.uid}.json": json.dumps(dashboard.json(), indent=1) + "\n"}
            manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            api_object(self, dashboard.uid, manifest)


_SCRAPED = {"schedulers": Component.SCHEDULER, "workers": Component.WORKER}
