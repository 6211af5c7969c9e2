"""Where the scheduler of a cluster is asked, and by which key it is known."""

from __future__ import annotations

from dask_crds import names
from dask_crds.names import Label, Port

from ..core.observed import Observed
from ..core.scheduler import dashboard_port, pod_to_ask
from ..core.signing import is_signed
from ..schedulers.pollers import Address
from .caches import Caches, named


def scheduler_address(o: Observed, caches: Caches) -> Address | None:
    """Where the scheduler of a snapshot is asked; ``None`` while it has no address.

    One that has the key is asked at its control port and nowhere else, so that nobody at its address is taken for it.
    Others are asked as those of earlier releases.
    """
    pod = pod_to_ask(o.scheduler_pods)
    if pod is None:
        return None
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    life = f"{pod.uid}/{sum(c.restarts for c in pod.containers)}/{pod.ready}"
    keys = caches.keyring.keys(o.cluster.uid) if o.cluster is not None and is_signed(pod) else ()
    if keys:
        return Address(pod.namespace, life, f"http://{host}:{pod.ports[Port.CONTROL.name]}", keys)
    name = pod.labels.get(Label.CLUSTER, "")
    service = named(caches.services.by_index((pod.namespace, name)), names.scheduler(name))
    return Address(pod.namespace, life, f"http://{host}:{dashboard_port(pod, service)}")
