"""A cluster's scheduler: Deployment, Service, the extension it loads, and the addresses under which it is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from dask_crds import names
from dask_crds.kubernetes import PodSpec
from dask_crds.model import DaskCluster, ServiceSpec
from dask_crds.names import Annotation, Component, Label, Port

from . import eviction
from .history import historic_revision, with_history
from .metadata import child_metadata
from .pod import NO_SIDECAR, main_container, with_environment
from .revision import revision
from .scheduler_extension import control_port, declared_ports, mounted, sources, with_key, with_loopback
from .security import certificates_of, secured_revision, with_tls

DEFAULT_CLUSTER_DOMAIN = "cluster.local"


def selector(cluster: str) -> dict[str, str]:
    """Labels by which the scheduler of ``cluster`` is found."""
    return {Label.CLUSTER: cluster, Label.COMPONENT: Component.SCHEDULER}


def host(cluster: str, namespace: str, domain: str = DEFAULT_CLUSTER_DOMAIN) -> str:
    """DNS name of the scheduler's Service."""
    return f"{names.scheduler(cluster)}.{namespace}.svc.{domain}"


def comm_address(cluster: str, namespace: str, domain: str = DEFAULT_CLUSTER_DOMAIN, *, tls: bool = False) -> str:
    """Address for workers and for ``distributed.Client``."""
    return f"{'tls' if tls else 'tcp'}://{host(cluster, namespace, domain)}:{Port.COMM.number}"


def dashboard_address(cluster: str, namespace: str, domain: str = DEFAULT_CLUSTER_DOMAIN) -> str:
    """URL of the dashboard."""
    return f"http://{host(cluster, namespace, domain)}:{Port.DASHBOARD.number}"


def scheduler_revision(cluster: DaskCluster) -> str:
    """Revision of the scheduler that the cluster asks for: its PodSpec, certificates and history."""
    return historic_revision(secured_revision(cluster.spec.scheduler.spec, certificates_of(cluster)), cluster)


def scheduler_metadata(cluster: DaskCluster) -> dict[str, Any]:
    """Metadata of the scheduler Pod; it may change without a restart."""
    stated = cluster.spec.scheduler
    defaults = eviction.of_scheduler(stated.eviction_policy)
    pod = child_metadata(cluster, "", template=stated.metadata, labels=selector(cluster.name), defaults=defaults)
    pod["labels"] = NO_SIDECAR | pod["labels"]
    return {field: pod[field] for field in ("labels", "annotations") if field in pod}


def scheduler_deployment(cluster: DaskCluster, *, signed: bool = True) -> dict[str, Any]:
    """Deployment ``<cluster>-scheduler``: a native controller heals the scheduler even while the operator is down.

    The strategy is Recreate because clients expect exactly one scheduler Pod at any time.

    Args:
        cluster: that it is of.
        signed: whether the scheduler takes signed orders only; not where the operator may not make the key for that.
    """
    labels, certificates = selector(cluster.name), certificates_of(cluster)
    pod = mounted(with_environment(cluster.spec.scheduler.spec, {}), names.scheduler_extension(cluster.name))
    if signed:
        pod = with_key(pod, names.security(cluster.name, cluster.uid))
    pod = with_tls(pod, Component.SCHEDULER, certificates, required=False)
    if certificates and (loopback := _loopback_port(cluster)) is not None:
        pod = with_loopback(pod, loopback)
    pod = _listening(with_history(pod, cluster), _target_port(cluster))
    noted = {Annotation.REVISION: scheduler_revision(cluster), Annotation.TEMPLATE: revision(pod)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_metadata(
            cluster,
            names.scheduler(cluster.name),
            labels=labels,
            annotations=noted | ({Annotation.TLS_SECRET: certificates} if certificates else {}),
        ),
        "spec": {
            "replicas": 0 if cluster.spec.suspend else 1,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": scheduler_metadata(cluster), "spec": pod},
        },
    }


def _target_port(cluster: DaskCluster) -> int | None:
    """The port at which the scheduler has to listen: where its Service leads to; ``None`` if that cannot be told."""
    found = comm_port(cluster)
    return leads_to(found, cluster.spec.scheduler.spec) if found is not None else None


def comm_port(cluster: DaskCluster) -> Mapping[str, Any] | None:
    """The port of the Service at which clients and workers find the scheduler; ``None`` if that cannot be told."""
    ports: Sequence[Mapping[str, Any]] = service_spec(cluster)["ports"]
    name = Port.TLS.name if certificates_of(cluster) else Port.COMM.name
    for field, value in (("name", name), ("port", Port.COMM.number)):
        found = next((port for port in ports if port.get(field) == value), None)
        if found is not None:
            return found
    return None


def leads_to(port: Mapping[str, Any], pod: PodSpec) -> int | None:
    """Number of the Pod's port that a Service's port leads to; ``None`` if the Pod has none of the name."""
    target = port.get("targetPort") or port.get("port")
    if isinstance(target, str):  # of several the first, as for Kubernetes (``FindPort``)
        wanted = target, port.get("protocol") or "TCP"
        ports = (stated for container in pod["containers"] for stated in container.get("ports") or ())
        found = (stated for stated in ports if (stated.get("name"), stated.get("protocol") or "TCP") == wanted)
        target = next((stated.get("containerPort") for stated in found), None)
    return target if isinstance(target, int) else None


def _listening(spec: dict[str, Any], port: int | None) -> dict[str, Any]:
    """A PodSpec whose scheduler is not taken for ready before it listens.

    Kubernetes takes a container for ready that merely runs, if it has no probe. A startup probe ends with the first
    connection: each one is a line in the scheduler's log.
    """
    main = main_container(spec, Component.SCHEDULER)

    def probed(container: dict[str, Any]) -> dict[str, Any]:
        if container["name"] != main or container.get("readinessProbe") or container.get("startupProbe"):
            return container
        # Without end: if it never listens, to restart it would only hide why.
        probe = {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 1_000_000}
        return {**container, "startupProbe": probe}

    return spec if port is None else {**spec, "containers": [probed(container) for container in spec["containers"]]}


def scheduler_service(cluster: DaskCluster) -> dict[str, Any]:
    """Service ``<cluster>-scheduler``: the user's spec; selector and ports are filled in where left out.

    The port for orders is added to the user's, too: the hooks of workers find it there. With TLS the port ``tcp-comm``
    is called what it is then, and another one of that name leads to the Pod's loopback: unchanged clients forward it.
    """
    spec = service_spec(cluster)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(
            cluster,
            names.scheduler(cluster.name),
            template=cluster.spec.scheduler.service_metadata,
            labels=selector(cluster.name),
            annotations={Annotation.REVISION: revision(spec)},
        ),
        "spec": spec,
    }


def service_spec(cluster: DaskCluster) -> dict[str, Any]:
    """``spec`` of that Service, for those who ask for no more: its metadata takes a hash of it all."""
    spec: ServiceSpec = cluster.spec.scheduler.service or {}
    defaults: dict[str, Any] = {
        "selector": selector(cluster.name),
        "ports": [
            {
                "name": Port.COMM.name,
                "port": Port.COMM.number,
                "targetPort": Port.COMM.number,
                "protocol": "TCP",
            },
            {
                "name": Port.DASHBOARD.name,
                "port": Port.DASHBOARD.number,
                "targetPort": Port.DASHBOARD.number,
                "protocol": "TCP",
            },
        ],
    }
    filled = {**spec, **{key: value for key, value in defaults.items() if not spec.get(key)}}
    if filled.get("type") != "ExternalName":
        ports = _named(filled["ports"])
        ports = _with_loopback_port(cluster, ports) if certificates_of(cluster) else ports
        filled["ports"] = [*ports, *_control_port(ports)]
    return filled


def _named(ports: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The user's ports. A single one needs no name of Kubernetes, but it does beside ours."""
    if len(ports) != 1 or ports[0].get("name"):
        return ports
    (port,) = ports
    usual = {known.number: known.name for known in (Port.COMM, Port.DASHBOARD)}
    return [{**port, "name": usual.get(port.get("targetPort") or port["port"], f"port-{port['port']}")}]


def _control_port(ports: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The port for orders beside ``ports``, unless it is one of them."""
    if all(port.get("name") != Port.CONTROL.name for port in ports):
        taken = {port.get("port") for port in ports}
        number = next(n for n in range(Port.CONTROL.number, 2**16) if n not in taken)
        # By name: it leads to no Pod that has no such port, and finds it where a Pod has it elsewhere.
        yield {"name": Port.CONTROL.name, "port": number, "targetPort": Port.CONTROL.name, "protocol": "TCP"}


def _with_loopback_port(cluster: DaskCluster, ports: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The ports of a Service where the scheduler speaks TLS."""
    names_of = {port.get("name") for port in ports}
    if Port.TLS.name not in names_of:
        ports = [{**port, "name": Port.TLS.name} if port.get("name") == Port.COMM.name else port for port in ports]
    number = _loopback_port(cluster)
    if number is None or any(port.get("name") == Port.LOOPBACK.name for port in ports):
        return list(ports)
    # A port-forward goes to the number that the Service has, whatever port it targets.
    return [*ports, {"name": Port.LOOPBACK.name, "port": number, "targetPort": number, "protocol": "TCP"}]


def _loopback_port(cluster: DaskCluster) -> int | None:
    """Where a scheduler that speaks TLS speaks plain TCP, too, at the loopback of its Pod; ``None`` if that has none.

    It is the same number in Pod and Service, so one that is free in both, and not that of the port for orders.
    """
    spec, service = cluster.spec.scheduler.spec, cluster.spec.scheduler.service or {}
    if spec.get("hostNetwork"):  # its loopback is the node's
        return None
    taken = declared_ports(spec) | {control_port(spec)} | {port.get("port") for port in service.get("ports") or ()}
    return next(number for number in range(Port.LOOPBACK.number, 2**16) if number not in taken)


def service_selects(cluster: DaskCluster) -> bool:
    """Whether the Service's selector, which its user may have written, matches the scheduler's Pod."""
    wanted = service_spec(cluster)["selector"]
    labels = scheduler_metadata(cluster)["labels"]
    return all(labels.get(key) == value for key, value in wanted.items())


def disruption_budget(cluster: DaskCluster) -> dict[str, Any]:
    """PodDisruptionBudget ``<cluster>-scheduler``: evicting the scheduler would lose all work.

    It goes with the cluster, before the scheduler's Pod: it is the cluster's own child, the Pod a great-grandchild.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(cluster, names.scheduler(cluster.name), labels=selector(cluster.name)),
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": selector(cluster.name)}},
    }


@cache
def _module_revision() -> str:
    return revision(sources())


def extension_config_map(cluster: DaskCluster) -> dict[str, Any]:
    """ConfigMap with the files that the scheduler loads, see ``docs/decisions/0003-scheduler-extension.md``."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(
            cluster,
            names.scheduler_extension(cluster.name),
            labels=selector(cluster.name),
            annotations={Annotation.REVISION: _module_revision()},
        ),
        "data": dict(sources()),
    }
