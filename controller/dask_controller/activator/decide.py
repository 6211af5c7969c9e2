"""Which clusters the activator stands in for, and how their Services lead to it. No I/O."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from dask_crds import names
from dask_crds.model import DaskCluster, InvalidManifest, parse
from dask_crds.names import Label
from dask_crds.reasons import Reason
from dask_resources.metadata import owner_reference
from dask_resources.scheduler import comm_port, service_spec

from ..core.conditions import is_true
from ..core.pod import Manifest

#: Addresses of one EndpointSlice that are kept: a scheduler has one, whoever writes more is a stranger.
MOST_ADDRESSES = 8


class Cluster(Struct, frozen=True, gc=False, kw_only=True):
    """What is kept of a DaskCluster."""

    namespace: str
    name: str
    uid: str
    version: str
    wakes: bool  #: whether clients may wake it: ``wake: OnConnect``, and its Service can be led elsewhere
    suspended: bool  #: by its ``spec``
    asleep: bool  #: and nothing of it runs any more, by its status
    port: str  #: name of the port of its Service at which clients connect
    owner: dict[str, Any]  #: the reference by which what is made for it goes with it


class Slice(Struct, frozen=True, gc=False, kw_only=True):
    """What is kept of an EndpointSlice of a scheduler's Service, ours or Kubernetes' own."""

    namespace: str
    name: str
    uid: str
    service: str
    ours: bool
    addresses: tuple[str, ...]  #: of endpoints that are ready
    ports: dict[str, int]  #: by the Service's names for them


def cluster(manifest: Manifest) -> Cluster:
    """What is kept of a DaskCluster; one that cannot be read wakes for nobody."""
    metadata = manifest["metadata"]
    known = {"namespace": sys.intern(metadata["namespace"]), "name": metadata["name"], "uid": metadata["uid"]}
    known["version"] = metadata.get("resourceVersion") or ""
    try:
        value = parse(dict(manifest))
    except InvalidManifest:
        value = None
    if not isinstance(value, DaskCluster) or value.spec.wake != "OnConnect" or metadata.get("deletionTimestamp"):
        return Cluster(**known, wakes=False, suspended=False, asleep=False, port="", owner={})
    port, spec = comm_port(value), service_spec(value)
    led = port is not None and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName"
    return Cluster(
        **known,
        wakes=led,
        suspended=bool(value.spec.suspend),
        asleep=bool(value.spec.suspend) and _has_gone(value),
        port=sys.intern(str((port or {}).get("name") or "")),
        owner=owner_reference(value),
    )


def _has_gone(value: DaskCluster) -> bool:
    """Whether scheduler and workers are gone: workers that are about to must not wake what they belong to."""
    status = value.status
    if status.observed_generation != value.generation or not is_true(status.conditions, "Ready"):
        return False
    return any(c.type == "Ready" and c.reason == Reason.SUSPENDED for c in status.conditions or ())


def endpoint_slice(manifest: Manifest) -> Slice:
    """What is kept of an EndpointSlice."""
    metadata = manifest["metadata"]
    labels = metadata.get("labels") or {}
    found = (e for e in manifest.get("endpoints") or () if (e.get("conditions") or {}).get("ready") is not False)
    addresses = [str(address) for e in found for address in (e.get("addresses") or ())[:1]]
    service = labels.get(Label.SERVICE) or ""
    named = metadata["name"] == names.doorway(service.removesuffix(names.scheduler("")))
    return Slice(
        namespace=sys.intern(metadata["namespace"]),
        name=metadata["name"],
        uid=metadata["uid"],
        service=service,
        ours=named and labels.get(Label.SLICE_MANAGER) == names.ACTIVATOR,
        addresses=tuple(addresses[:MOST_ADDRESSES]),
        ports={str(p.get("name") or ""): p["port"] for p in manifest.get("ports") or () if p.get("port")},
    )


def scheduler_at(of: Cluster, slices: Iterable[Slice]) -> tuple[str, int] | None:
    """Address and port of the scheduler, once Kubernetes says that it is ready."""
    for found in slices:
        if not found.ours and found.addresses and of.port in found.ports:
            return found.addresses[0], found.ports[of.port]
    return None


def doorway(of: Cluster, address: str, port: int) -> dict[str, Any]:
    """The EndpointSlice by which the Service of a cluster leads to the activator.

    Kubernetes merges all slices that have the Service's label, whoever looks after them:
    https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#management

    Args:
        of: the cluster.
        address: the activator's own.
        port: where it listens for this cluster.
    """
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": names.doorway(of.name),
            "namespace": of.namespace,
            "labels": {Label.SERVICE: names.scheduler(of.name), Label.SLICE_MANAGER: names.ACTIVATOR},
            "ownerReferences": [of.owner],
        },
        "addressType": f"IPv{ipaddress.ip_address(address).version}",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": of.port, "port": port, "protocol": "TCP"}],
    }


def leads_here(found: Slice, of: Cluster, address: str, port: int) -> bool:
    """Whether a slice of ours says what `doorway` would."""
    return found.addresses == (address,) and found.ports == {of.port: port}


def stands_in(of: Cluster | None) -> bool:
    """Whether who connects to the cluster's Service is to come to the activator.

    Not once it has been woken: its workers start together with the scheduler, and would come here as well. Who connects
    in between is refused, and tries again, as distributed does.
    """
    return of is not None and of.wakes and of.asleep
