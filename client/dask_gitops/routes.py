"""Which way leads to a scheduler and to its dashboard: pure decisions."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from dask_crds import names
from dask_crds.names import Port

#: ``direct``: by the Service, from inside of the Kubernetes cluster; ``forward``: by the API server.
Via = Literal["direct", "forward"]
#: Where Jupyter's servers say under which path they are found; Kubeflow's say it in the second.
_JUPYTER = ("JUPYTERHUB_SERVICE_PREFIX", "NB_PREFIX")
#: What distributed does if its user says nothing of ``distributed.dashboard.link``.
DEFAULT_LINK = "{scheme}://{host}:{port}/status"


@dataclass(frozen=True)
class Route:
    """One way to the scheduler."""

    via: Via
    tls: bool  #: whether TLS is spoken with the scheduler, and so credentials are needed
    ports: tuple[str, ...]  #: names of the Service's port, the most wanted first


def routes(*, inside: bool, tls: bool, credentials: bool, via: Via | None = None) -> list[Route]:
    """Ways to the scheduler, the best first.

    Who has no credentials comes in by the API server, which asks for the right to forward ports: a scheduler with TLS
    also listens at the loopback of its Pod, see decision 14.

    Args:
        inside: whether we are in a Pod of the same Kubernetes cluster.
        tls: whether the cluster speaks TLS.
        credentials: whether we have those of the cluster.
        via: the only way that the user wants.
    """
    ways = []
    if inside and (credentials or not tls):
        ways.append(Route("direct", tls, ()))
    if not tls:
        ways.append(Route("forward", False, (Port.COMM.name,)))
    elif credentials:
        ways.append(Route("forward", True, (Port.TLS.name, Port.COMM.name)))
    else:
        ways.append(Route("forward", False, (Port.LOOPBACK.name,)))
    if via == "direct":
        return [way for way in ways if way.via == via] or [Route("direct", tls, ())]
    return [way for way in ways if via in (None, way.via)]


def is_inside(server: str, environment: Mapping[str, str]) -> bool:
    """Whether we run in a Pod of the Kubernetes cluster that we have signed in to.

    A Pod may hold a kubeconfig of another one, where a Service of the same name is somebody else's.

    Args:
        server: URL of the API server that we talk to.
        environment: variables of the process.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST")
    found = urlsplit(server)
    own = {host, "kubernetes.default.svc", "kubernetes.default"} if host else set()
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    return found.hostname in own and str(found.port or 443) == port


def tls_secret(cluster: Mapping[str, Any]) -> str:
    """Name of the Secret with the cluster's credentials; empty where it speaks plain TCP."""
    tls = ((cluster.get("spec") or {}).get("security") or {}).get("tls")
    if not tls:
        return ""
    metadata = cluster["metadata"]
    return str(tls.get("secretName") or names.security(metadata["name"], metadata["uid"]))


def service_host(cluster: Mapping[str, Any]) -> tuple[str, int]:
    """Host and port of the scheduler inside of the Kubernetes cluster, as its status says, or as they are usual."""
    metadata = cluster["metadata"]
    told = urlsplit(str((cluster.get("status") or {}).get("schedulerAddress") or ""))
    usual = f"{names.scheduler(metadata['name'])}.{metadata['namespace']}.svc"
    return told.hostname or usual, told.port or Port.COMM.number


def dashboard_link(host: str, port: int, environment: Mapping[str, str], template: str, *, scheme: str = "http") -> str:
    """A link that opens where the user's browser is.

    What the user says of ``distributed.dashboard.link`` counts. In a notebook that JupyterHub or Kubeflow serves, the
    browser reaches no port of it but by jupyter-server-proxy, which lets any port of the notebook's own through.

    Args:
        host: where the dashboard answers, from here.
        port: likewise.
        environment: variables of the process.
        template: of ``distributed.dashboard.link``.
        scheme: of the dashboard itself.
    """
    values = {"scheme": scheme, "host": host, "port": port}
    if template != DEFAULT_LINK:
        with contextlib.suppress(LookupError, ValueError):  # one that does not fit here
            return template.format(**{**environment, **values})
    prefix = next((environment[name] for name in _JUPYTER if environment.get(name)), "")
    if prefix:
        place = str(port) if host in ("127.0.0.1", "localhost") else f"{host}:{port}"
        return f"{prefix.rstrip('/')}/proxy/{place}/status"
    return DEFAULT_LINK.format(**values)


def exposed_link(objects: list[Mapping[str, Any]]) -> str:
    """URL under which Git publishes the dashboard: of the first Ingress or HTTPRoute that has a host; else empty."""
    for each in objects:
        spec = each.get("spec") or {}
        if hosts := spec.get("hostnames"):
            return f"https://{hosts[0]}/status"
        hosts = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
        if hosts:
            secure = any(hosts[0] in (tls.get("hosts") or ()) for tls in spec.get("tls") or ())
            return f"{'https' if secure else 'http'}://{hosts[0]}/status"
    return ""
