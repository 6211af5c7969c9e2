"""Who may talk to the Pods of one cluster, and whom they may talk to (NetworkPolicy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Required, TypedDict, Unpack

from constructs import Construct

from dask_crds.names import Component, Label, Port

from .keywords import Options
from .manifest import api_object
from .operator_pod import SELECTOR
from .peers import ASKED, DNS, Peer, components, of_scheduler, peer, tcp
from .resource import DaskConstruct
from .values import ClusterOrJob, Text

#: Ports of a scheduler for who computes, and for who looks on.
COMPUTING, LOOKING = of_scheduler(Port.COMM, Port.DASHBOARD), of_scheduler(Port.DASHBOARD)
#: Where schedulers and workers show metrics: by name alone, as a worker's number is that of a scheduler's orders.
SCRAPED = tcp(Port.DASHBOARD.name)


class IsolationOptions(TypedDict, total=False):
    """Keyword arguments of ``DaskCluster.isolate``."""

    clients: Sequence[Peer] | None
    """Who uses the scheduler and sees the dashboard: namespaces by name, or peers as in a NetworkPolicy."""
    dashboards: Sequence[Peer] | None
    """Who sees the dashboard alone: the namespace of an Ingress controller, say."""
    metrics_namespaces: Sequence[Peer] | None
    """Who reads the metrics of scheduler and workers, and so sees their dashboards: the namespace of Prometheus."""
    egress: Sequence[Mapping[str, Any]] | None
    """Where the cluster's Pods go besides DNS and each other, object stores say; rules as in a NetworkPolicy."""
    operator_namespace: Text | None
    """Where the operator runs, which asks the scheduler (default ``dask-operator``)."""


class NetworkPolicyProps(IsolationOptions, total=False):
    """Keyword arguments of ``DaskNetworkPolicy``."""

    cluster: Required[ClusterOrJob]
    """The cluster, or its name; or the job whose cluster it is."""
    namespace: Text | None
    """Its namespace; left out, that of the chart."""


class DaskNetworkPolicy(DaskConstruct):
    """Isolates one cluster: its Pods talk to each other and to DNS, and to others as far as is said.

    Two policies, ``<cluster>-scheduler`` and ``<cluster>-members``. They hold where the network plugin enforces
    NetworkPolicies, and not for Pods in the host's network. Probes of the kubelet and port-forwards go on.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[NetworkPolicyProps]) -> None:
        """Declare it with the keyword arguments of ``NetworkPolicyProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, NetworkPolicyProps)
        cluster = options.get("cluster", "")
        where = {"namespace": options["namespace"]} if "namespace" in options else {}
        for name, spec in {"scheduler": _of_scheduler(cluster, options), "members": _of_all(cluster, options)}.items():
            metadata = {"name": f"{cluster}-{name}", "labels": {Label.CLUSTER: cluster}, **where}
            manifest = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata}
            api_object(self, name, {**manifest, "spec": spec})


def _of_scheduler(cluster: str, options: Options) -> dict[str, Any]:
    operator = {
        **peer(options.get("operator_namespace", "dask-operator")),
        "podSelector": {"matchLabels": SELECTOR},
    }
    rules: list[dict[str, Any]] = [{"from": [operator], "ports": ASKED}]
    if clients := options.get("clients"):
        rules.append({"from": [peer(one) for one in clients], "ports": COMPUTING})
    if dashboards := options.get("dashboards"):
        rules.append({"from": [peer(one) for one in dashboards], "ports": LOOKING})
    return {**_pods(cluster, Component.SCHEDULER), "policyTypes": ["Ingress"], "ingress": rules}


def _of_all(cluster: str, options: Options) -> dict[str, Any]:
    """Workers listen at ports that they choose, so all ports are open between the Pods of the cluster."""
    each_other = _pods(cluster, Component.SCHEDULER, Component.WORKER, Component.JOB_RUNNER)
    ingress: list[dict[str, Any]] = [{"from": [each_other]}]
    if readers := options.get("metrics_namespaces"):
        ingress.append({"from": [peer(one) for one in readers], "ports": SCRAPED})
    return {
        **each_other,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": [DNS, {"to": [each_other]}, *options.get("egress", ())],
    }


def _pods(cluster: str, *kinds: str) -> dict[str, Any]:
    selector = components(*kinds)["podSelector"]
    return {"podSelector": {"matchLabels": {Label.CLUSTER: cluster}, **selector}}
