"""The doors of all sleeping clusters: what the watches tell is decided on and carried out, each cluster by itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from dask_crds import names
from dask_crds.kinds import RESOURCES
from dask_crds.reasons import Reason

from ..core.time import format_time
from ..kube.api import ApiError
from ..kube.client import Kubernetes
from ..kube.informer import Informer
from ..kube.workqueue import Queue
from . import decide
from .decide import Cluster, Slice
from .door import Closed, Door

logger = logging.getLogger(__name__)

#: Seconds between looks for a scheduler that is coming up, while somebody is held for it.
LOOK_SECONDS = 0.05
#: For how long a door is kept that nobody is led to any more: proxies on nodes follow late.
LINGER_SECONDS = 10.0


class Key(NamedTuple):
    """A cluster."""

    namespace: str
    name: str

    #: For the metrics of the queue.
    @property
    def kind(self) -> str:
        """That of its resource."""
        return "DaskCluster"

    def __str__(self) -> str:
        return f"DaskCluster {self.namespace}/{self.name}"

    @property
    def log_fields(self) -> dict[str, Any]:
        """What a line of the log is about, as fields of JSON."""
        return {"k8s_ref": {"apiVersion": names.API_VERSION, "kind": self.kind, **self._asdict()}}


class Rooms:
    """The activator without its process.

    Attributes:
        queue: the clusters that have to be looked at.
        informers: by plural.
        wakes: how many clusters were woken.

    Args:
        kubernetes: the client.
        address: IP address at which this process is reached.
        namespaces: those to serve; ``None`` for all.
        queue: where the watches put the clusters that have changed.
    """

    def __init__(
        self, kubernetes: Kubernetes, address: str, namespaces: Sequence[str] | None, queue: Queue[Key]
    ) -> None:
        self.queue, self.wakes = queue, 0
        self._kubernetes, self._address = kubernetes, address
        self._any = "::" if ipaddress.ip_address(address).version == 6 else "0.0.0.0"
        self._doors: dict[Key, dict[str, Door]] = {}  # by uid: another cluster may have had the name
        self._waking: dict[str, asyncio.Lock] = {}
        self.clusters: Informer[Cluster] = Informer(
            kubernetes,
            RESOURCES["DaskCluster"],
            project=decide.cluster,
            index=lambda c: (Key(c.namespace, c.name),),
            on_change=lambda old, new: self._changed(_present(old, new).namespace, _present(old, new).name),
            namespaces=namespaces,
        )
        self.slices: Informer[Slice] = Informer(
            kubernetes,
            RESOURCES["EndpointSlice"],
            project=decide.endpoint_slice,
            index=lambda s: ((s.namespace, s.service),),
            on_change=self._slice_changed,
            namespaces=namespaces,
            label=names.Label.SERVICE,
        )
        self.informers = {i.resource.plural: i for i in (self.clusters, self.slices)}

    @property
    def connections(self) -> int:
        """How many there are at all doors, held and passed on."""
        return sum(door.connections for doors in self._doors.values() for door in doors.values())

    @property
    def doors(self) -> int:
        """How many clusters are stood in for."""
        return sum(map(len, self._doors.values()))

    def _changed(self, namespace: str, name: str) -> None:
        if self.queue.is_running:
            self.queue.add(Key(namespace, name), prompt=True)

    def _slice_changed(self, old: Slice | None, new: Slice | None) -> None:
        found = _present(old, new)
        if found.ours:
            self._changed(found.namespace, found.service.removesuffix(names.scheduler("")))

    def cluster(self, key: Key) -> Cluster | None:
        """The cluster of that name."""
        return next(iter(self.clusters.by_index(key)), None)

    def _slices(self, key: Key) -> list[Slice]:
        return self.slices.by_index((key.namespace, names.scheduler(key.name)))

    def all_keys(self) -> set[Key]:
        """All clusters, and those that slices of ours are left of."""
        there = {Key(c.namespace, c.name) for c in self.clusters.store.values()}
        left = (s for s in self.slices.store.values() if s.ours)
        return there | {Key(s.namespace, s.service.removesuffix(names.scheduler(""))) for s in left}

    async def reconcile(self, key: Key) -> float | None:
        """Have the Service of a cluster lead here while it sleeps, and only then."""
        of = self.cluster(key)
        ours = next((s for s in self._slices(key) if s.ours), None)
        if of is not None and decide.stands_in(of):
            doors = self._doors.setdefault(key, {})
            if (door := doors.get(of.uid)) is None:
                door = doors[of.uid] = await self._door(key, of.uid)
            if ours is None or not decide.leads_here(ours, of, self._address, door.port):
                await self._lead_here(of, ours, door)
            return None
        if ours is not None:
            await self._delete(ours)
        return await self._close(key)

    async def _door(self, key: Key, uid: str) -> Door:
        async def opened() -> tuple[str, int]:
            return await self._opened(key, uid)

        return await Door(str(key), opened).listen(self._any)

    async def _lead_here(self, of: Cluster, ours: Slice | None, door: Door) -> None:
        if ours is not None:
            await self._delete(ours)
        self.slices.put(await self._kubernetes.create(decide.doorway(of, self._address, door.port)))
        logger.info("%s sleeps: its Service leads to port %d", Key(of.namespace, of.name), door.port)

    async def _delete(self, ours: Slice) -> None:
        """Take a slice of ours away. One that is another by now is left alone."""
        await self._kubernetes.delete("EndpointSlice", ours.namespace, ours.name, uid=ours.uid)
        self.slices.remove(ours.uid)

    async def _close(self, key: Key) -> float | None:
        """Close the doors of what has that name, or had: nobody is led to them; those at which somebody is, later."""
        doors = self._doors.get(key, {})
        for uid in [uid for uid, door in doors.items() if not door.connections]:
            self._waking.pop(uid, None)
            await doors.pop(uid).close()
        if doors:
            return LINGER_SECONDS
        self._doors.pop(key, None)
        return None

    async def _opened(self, key: Key, uid: str) -> tuple[str, int]:
        """Wake the cluster once, and say where its scheduler is when it is ready.

        Raises:
            Closed: it is gone, or was suspended again; or waking it was refused.
        """
        woken = False
        while True:
            of = self.cluster(key)
            if of is None or of.uid != uid or not of.wakes:
                raise Closed("the cluster is gone, or wakes for nobody any more")
            if not of.suspended:
                if found := decide.scheduler_at(of, self._slices(key)):
                    return found
            elif woken:
                raise Closed("the cluster was suspended again")
            if not woken:
                await self._wake(key, uid)
                woken = True
            await asyncio.sleep(LOOK_SECONDS)

    async def _wake(self, key: Key, uid: str) -> None:
        """Set ``spec.suspend`` to false, once for all who are held.

        Raises:
            Closed: the API server does not let us.
        """
        async with self._waking.setdefault(uid, asyncio.Lock()):
            of = self.cluster(key)
            if of is None or of.uid != uid or not of.suspended:
                return
            try:
                patch = {"metadata": {"uid": uid}, "spec": {"suspend": False}}
                self.clusters.put(await self._kubernetes.patch("DaskCluster", *key, patch))
            except ApiError as error:
                logger.warning("%s cannot be woken: %s", key, error, extra=key.log_fields)
                raise Closed(f"the cluster cannot be woken: {error}") from None
            self.wakes += 1
            logger.info("%s was woken", key, extra=key.log_fields)
        with contextlib.suppress(ApiError):  # the cluster wakes without it
            await self._tell(of)

    async def _tell(self, of: Cluster) -> None:
        now = format_time(self._kubernetes.now())
        name = hashlib.sha256(f"{of.uid}{of.version}".encode()).hexdigest()[:16]
        involved = {"apiVersion": names.API_VERSION, "kind": "DaskCluster", "name": of.name}
        await self._kubernetes.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{of.name}.{name}", "namespace": of.namespace},
                "involvedObject": {**involved, "namespace": of.namespace, "uid": of.uid},
                "type": "Normal",
                "reason": Reason.WOKEN,
                "message": "a client connected: spec.suspend was set to false",
                "source": {"component": names.ACTIVATOR},
                "reportingComponent": names.ACTIVATOR,
                "reportingInstance": names.ACTIVATOR,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }
        )

    async def close(self) -> None:
        """Lead nobody here any more: whoever comes after this process begins anew."""
        await asyncio.gather(*(self._delete(s) for s in self.slices.store.values() if s.ours), return_exceptions=True)
        await asyncio.gather(*(door.close() for doors in self._doors.values() for door in doors.values()))


def _present(old: Any, new: Any) -> Any:
    return old if new is None else new
