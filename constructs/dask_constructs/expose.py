"""A dashboard for people outside of the Kubernetes cluster: an Ingress, or a HTTPRoute of Gateway API.

Clients get to the scheduler by a TCPRoute or a TLSRoute. The versions are those of Gateway API's standard channel:
HTTPRoute v1 since 1.0, TLSRoute v1 since 1.5, TCPRoute v1 since 1.6, which serves no older one.

What is published is a white list. The port of the dashboard also has routes that retire workers (those of the operator
and ``/api/v1``) and a proxy to any port that the scheduler reaches: no spelling of their paths may lead there, and no
controller agrees with another on case, dots and encoded slashes of what is to be kept out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, Protocol, Required, TypedDict, Unpack, runtime_checkable

from constructs import Construct

from dask_crds import names
from dask_crds.names import Label, NamedPort, Port

from .keywords import Options, Plain
from .manifest import api_object
from .resource import DaskConstruct
from .service_ports import ServicePort, service_port
from .values import ClusterOrJob, Name, Secret, Text

_PAGES = [
    *("counters", "events", "exceptions", "gpu", "graph", "groups", "hardware", "profile", "profile-server", "shuffle"),
    *("status", "stealing", "system", "tasks", "workers", "info", "json", "eventstream", "static", "statics"),
    *("sitemap.json", "individual-plots.json"),
]
_PLOTS = [
    *("aggregate-time-per-action", "bandwidth-types", "bandwidth-workers", "cluster-memory", "compute-time-per-key"),
    *("contention", "cpu", "exceptions", "fine-performance-metrics", "gpu-memory", "gpu-utilization", "graph"),
    *("group-progress", "groups", "memory-by-key", "nprocessing", "occupancy", "profile", "profile-server", "progress"),
    *("rmm-memory", "scheduler-system", "task-stream", "workers", "workers-cpu-timeseries", "workers-disk"),
    *("workers-disk-timeseries", "workers-memory", "workers-memory-timeseries", "workers-network"),
    *("workers-network-timeseries", "workers-transfer-bytes"),
]
#: Paths of the dashboard; what is below them belongs to them, the web sockets of its plots for one.
_DASHBOARD = [f"/{page}" for page in _PAGES] + [f"/individual-{plot}" for plot in _PLOTS]
_JUPYTER = "/jupyter"
_GATEWAY_API = "gateway.networking.k8s.io/v1"
#: So many matches a rule of a HTTPRoute has at most.
_MOST_MATCHES = 64
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


def _host(given: object) -> object:
    if isinstance(given, str) and (len(given) > 253 or not _HOST.fullmatch(given)):
        raise ValueError(f"must be a host such as dask.example.org, without scheme, port or path, not {given!r}")
    return given


#: A Gateway of the same namespace by its name, or a ``parentRef``.
Gateway = Text | Mapping[str, Any]


@runtime_checkable
class WithTemplate(Protocol):
    """A cluster, or a job with one, which knows what it has said of its scheduler."""

    def scheduler_template(self) -> Mapping[str, Any]:
        """What the manifest says of the scheduler and its Service."""


class Backend(NamedTuple):
    """A port of a Service, as routes name it."""

    name: str
    port: int


class ExposeOptions(TypedDict, total=False):
    """Keyword arguments of ``expose``."""

    host: Required[Annotated[str, Plain(Text, "a host such as dask.example.org", _host)]]
    """Host under which the dashboard is found."""
    ingress_class: Name | None
    """Class of the Ingress (default: that of the Kubernetes cluster)."""
    gateway: Gateway | None
    """Make a HTTPRoute for this Gateway instead of an Ingress: its name, or ``{"name": ..., "namespace": ...}``, also
    with ``sectionName``. A Gateway in another namespace lets the route in by the ``allowedRoutes`` of its listener."""
    comm_gateway: Gateway | None
    """Make a TCPRoute as well, by which clients reach the scheduler. It asks nobody who they are, and who reaches it
    runs code: for a listener that is not reached from everywhere, or with certificates of Dask's own."""
    comm_host: Annotated[str, Plain(Text, "a host such as comm.dask.example.org", _host)] | None
    """Make a TLSRoute in the TCPRoute's place: clients of ``tls://`` ask for this host, so that many clusters share one
    listener of ``comm_gateway``. It ends their TLS, or leaves that to a scheduler with certificates (``Passthrough``).
    """
    tls_secret: Secret | None
    """Secret with the Ingress' certificate; that of a Gateway is its listener's."""
    jupyter: bool | None
    """Publish JupyterLab as well (default false), which runs code for whoever gets in."""
    labels: Mapping[Text, str] | None
    """Labels of Ingress or routes."""
    annotations: Mapping[Text, str] | None
    """Annotations of Ingress or routes, by which controllers ask for a login, say."""
    name: Name | None
    """Name of Ingress or routes (default ``<cluster>-<id>``)."""


class ExposureProps(ExposeOptions, total=False):
    """Keyword arguments of ``DaskExposure``."""

    cluster: Required[ClusterOrJob]
    """The cluster, or its name; or the job whose cluster it is. The ports of its Service are known of the object alone:
    those named ``http-dashboard`` and ``tcp-comm`` are published; of a name, 8787 and 8786."""
    namespace: Text | None
    """Its namespace; left out, that of the chart."""


class DaskExposure(DaskConstruct):
    """Publishes the dashboard of one cluster, and nothing else at its port.

    >>> cluster.expose(host="dask.example.org", ingress_class="nginx", tls_secret="dask-tls")

    Workers' own pages, which the scheduler fetches at ``/proxy``, ``/metrics`` and ``/api`` are not published. Neither
    the dashboard nor JupyterLab asks for a login: that is up to the controller in front, see ``annotations``.

    Args:
        props: see ``ExposureProps``.

    Attributes:
        url: where people find the dashboard.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[ExposureProps]) -> None:
        """Declare it with the keyword arguments of ``ExposureProps``, where each is explained."""
        super().__init__(scope, id)
        self._options = options = self._accepted(props, ExposureProps)
        cluster, host = options.get("cluster", "cluster"), options.get("host", "localhost")
        self._metadata = {
            "name": f"{cluster}-{id}",
            **{key: options[key] for key in ("name", "namespace", "annotations") if key in options},
            "labels": {**options.get("labels", {}), Label.CLUSTER: cluster},
        }
        secure = "tls_secret" in options or "gateway" in options
        self.url = f"{'https' if secure else 'http'}://{host}/status"
        self._cluster, service = props["cluster"], names.scheduler(cluster)
        self._ports = self._looked_up()
        dashboard = Backend(service, self._ports[Port.DASHBOARD].number)
        paths = [*_DASHBOARD, *[_JUPYTER] * bool(options.get("jupyter"))]
        if "gateway" in options:
            self._object(_GATEWAY_API, "HTTPRoute", _http_route(dashboard, host, paths, options))
        else:
            self._object("networking.k8s.io/v1", "Ingress", _ingress(dashboard, host, paths, options))
        if "comm_gateway" in options:
            rules = [{"backendRefs": [Backend(service, self._ports[Port.COMM].number)._asdict()]}]
            spec = {"parentRefs": [_parent(options["comm_gateway"])], "rules": rules}
            if "comm_host" in options:
                self._object(_GATEWAY_API, "TLSRoute", {**spec, "hostnames": [options["comm_host"]]})
            else:
                self._object(_GATEWAY_API, "TCPRoute", spec)

    def _looked_up(self) -> dict[NamedPort, ServicePort]:
        """The ports that are published, as all patches of the cluster have left them."""
        scheduler = self._cluster.scheduler_template() if isinstance(self._cluster, WithTemplate) else {}
        wanted = (Port.DASHBOARD, Port.COMM) if "comm_gateway" in self._options else (Port.DASHBOARD,)
        return {port: service_port(scheduler, port) for port in wanted}

    def _object(self, api_version: str, kind: str, spec: Mapping[str, Any]) -> None:
        manifest = {"apiVersion": api_version, "kind": kind, "metadata": self._metadata, "spec": spec}
        api_object(self, kind, manifest)

    def _problems(self) -> Iterator[str]:
        for port, found in self._looked_up().items():
            if found.trouble:
                yield f"cluster: {found.trouble}"
            elif found != self._ports[port]:
                yield f"cluster: {port.name!r} of its Service was changed later: publish it after that"
        if "comm_host" in self._options and "comm_gateway" not in self._options:
            yield "comm_host: says nothing without comm_gateway"
        if "gateway" in self._options:
            for keyword in ("tls_secret", "ingress_class"):
                if keyword in self._options:
                    yield f"{keyword}: is for an Ingress; class and certificate of a route are its Gateway's"
        for keyword in ("gateway", "comm_gateway"):
            parent = self._options.get(keyword)
            if isinstance(parent, Mapping) and not (isinstance(parent.get("name"), str) and parent["name"]):
                yield f"{keyword}: needs the name of the Gateway: {{'name': ..., 'namespace': ...}}"


def _ingress(dashboard: Backend, host: str, paths: list[str], options: Options) -> dict[str, Any]:
    backend = {"service": {"name": dashboard.name, "port": {"number": dashboard.port}}}
    rules = [{"path": "/", "pathType": "Exact", "backend": backend}]
    rules += [{"path": path, "pathType": "Prefix", "backend": backend} for path in paths]
    spec: dict[str, Any] = {"rules": [{"host": host, "http": {"paths": rules}}]}
    if "ingress_class" in options:
        spec["ingressClassName"] = options["ingress_class"]
    if "tls_secret" in options:
        spec["tls"] = [{"hosts": [host], "secretName": options["tls_secret"]}]
    return spec


def _http_route(dashboard: Backend, host: str, paths: list[str], options: Options) -> dict[str, Any]:
    matches = [{"path": {"type": "Exact", "value": "/"}}]
    matches += [{"path": {"type": "PathPrefix", "value": path}} for path in paths]
    rules = [
        {"matches": matches[start : start + _MOST_MATCHES], "backendRefs": [dashboard._asdict()]}
        for start in range(0, len(matches), _MOST_MATCHES)
    ]
    return {"parentRefs": [_parent(options["gateway"])], "hostnames": [host], "rules": rules}


def _parent(given: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"name": given} if isinstance(given, str) else dict(given)
