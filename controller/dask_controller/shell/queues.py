"""The room of Kueue: its objects in a cache where its API is served, and what they mean to resources of ours.

Where it is not, nothing is watched, and what names a queue is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dask_crds.kinds import KUEUE_GROUP, KUEUE_VERSION, QUEUES
from dask_crds.names import Label, QueueRole
from dask_crds.reasons import Reason
from dask_resources.queue import Priority

from ..core.pod import Problem
from ..core.queue_workload import Flavor, PriorityClass, Workload, flavor, priority_class, waited, workload
from ..kube.api import ApiError
from ..kube.client import Kubernetes
from ..kube.informer import Informer
from .positions import Positions

logger = logging.getLogger(__name__)

#: How often it is looked whether somebody has installed Kueue.
INSTALLED_SECONDS = 30.0


class Queues:
    """What there is of Kueue.

    Attributes:
        informers: by kind; they are run once there is something to follow.
        positions: places in line.
        problem: why there is nothing of it; ``None`` where there is.
        known: set when it is known whether there is; decide nothing before.
        on_admitted: called with the kind of its owner, and the seconds that it has waited, when a Workload is admitted.

    Args:
        kubernetes: the client.
        namespaces: those whose Workloads to watch; ``None`` for all.
        on_change: called with the old and the new form of a Workload; must not block.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        namespaces: Sequence[str] | None,
        on_change: Callable[[Workload | None, Workload | None], None],
    ) -> None:
        self._kubernetes, self._namespaces = kubernetes, namespaces
        self.problem: Problem | None = Problem(Reason.QUEUE_UNAVAILABLE, "nobody has looked yet whether there is Kueue")
        self.known = asyncio.Event()
        self.positions = Positions(kubernetes)
        self.on_admitted: Callable[[str, float], object] = lambda _kind, _seconds: None

        def changed(old: Workload | None, new: Workload | None) -> None:
            if new is not None and (seconds := waited(old, new)) is not None:
                self.on_admitted(new.owner_kind, seconds)
            on_change(old, new)

        self._on_change = on_change
        self._workloads: Informer[Workload] = Informer(
            kubernetes,
            QUEUES["Workload"],
            project=workload,
            index=lambda w: [(w.namespace, w.owner_uid)],
            on_change=changed,
            namespaces=namespaces,
            label=Label.QUEUE_ROLE,
        )
        self._flavors: Informer[Flavor] = Informer(kubernetes, QUEUES["ResourceFlavor"], project=flavor)
        self._classes: Informer[PriorityClass] = Informer(
            kubernetes, QUEUES["WorkloadPriorityClass"], project=priority_class, index=lambda c: [c.name]
        )
        self.informers: dict[str, Informer[Any]] = {
            "Workload": self._workloads,
            "ResourceFlavor": self._flavors,
            "WorkloadPriorityClass": self._classes,
        }

    async def find(self) -> bool:
        """Look whether Kueue is there and may be read.

        Raises:
            ApiError: the API server did not say.
        """
        try:
            served = await self._kubernetes.served(KUEUE_GROUP, KUEUE_VERSION)
        except ApiError as error:
            if error.status != 404:
                raise
            served = set()
        for row in QUEUES.values():
            if row.plural not in served:
                text = f"Kueue is not installed: the API server does not serve {row.plural}.{row.api_version}"
                self.problem = Problem(Reason.QUEUE_UNAVAILABLE, text)
                return False
            namespace = self._namespaces[0] if self._namespaces and row.namespaced else None
            try:
                async with contextlib.aclosing(self._kubernetes.pages(row, namespace, metadata_only=True)) as pages:
                    await anext(pages)
            except ApiError as error:
                if error.status not in (403, 404):
                    raise
                self.problem = Problem(Reason.QUEUE_UNAVAILABLE, f"the operator may not read {row.plural}: {error}")
                return False
        return True

    async def run(self) -> None:
        """Follow all that there is, until cancelled; where there is nothing, look for it now and then.

        Raises:
            ApiError: the API server did not say whether there is Kueue, when it was asked for the first time.
        """
        found = await self.find()
        while not found:
            self.known.set()
            await asyncio.sleep(INSTALLED_SECONDS)
            try:
                found = await self.find()
            except ApiError as error:
                logger.warning("looking for Kueue: %s", error)
        async with asyncio.TaskGroup() as group:
            for informer in self.informers.values():
                group.create_task(informer.run())
            await asyncio.gather(*(informer.synced.wait() for informer in self.informers.values()))
            self.problem = None  # whom it concerns looks again by itself
            self.known.set()

    async def tell_positions(self) -> None:
        """Have those looked at whose place in line is another one, until cancelled; for whoever leads alone."""
        while True:
            there = self._workloads.store.values() if self.problem is None else ()
            waiting = [w for w in there if w.role == QueueRole.BASE and w.queue and w.is_pending]
            moved, pause = await self.positions.look(waiting)
            for each in moved:
                self._on_change(each, each)
            await asyncio.sleep(pause)

    def of(self, namespace: str, uid: str) -> tuple[Workload, ...]:
        """The Workloads whose controller has that uid, by name."""
        return tuple(sorted(self._workloads.by_index((namespace, uid)), key=lambda w: w.name)) if uid else ()

    @property
    def flavors(self) -> Mapping[str, Flavor]:
        """All ResourceFlavors, by name."""
        return {found.name: found for found in self._flavors.store.values()}

    def priority(self, class_name: str, otherwise: Priority) -> Priority | Problem:
        """What a WorkloadPriorityClass says, if one is named."""
        if not class_name:
            return otherwise
        found: Iterable[PriorityClass] = self._classes.by_index(class_name)
        value = next((each.value for each in found), None)
        if value is None:
            return Problem(Reason.QUEUE_UNAVAILABLE, f"there is no WorkloadPriorityClass {class_name}")
        return Priority(value, class_name)
