"""Clusters of Git in the side bar of JupyterLab: an extension of its server, beside ``dask-labextension``.

That one's manager knows the clusters that were started there and no others. Here the DaskClusters that the user may see
are put among them, under their uids. What it does with them then (list, scale, adapt, shut down, show the dashboard)
comes to `Seen`, which does it by the API server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dask_crds import names
from dask_crds.names import DEFAULT_GROUP, Port
from dask_crds.quantity import parse_quantity

from . import connection, scaling
from .access import Access
from .cluster import Adaptive
from .errors import DaskGitopsError, MissingRight, NoSuchObject
from .forward import forwarded
from .standing import counted, standing

#: Seconds between two looks.
_INTERVAL = 5.0
#: Seconds that the group of a new cluster has to come into being.
_ATTEMPTS = 30


class Seen:
    """A DaskCluster as ``dask-labextension`` knows clusters, without a connection to its scheduler."""

    def __init__(self, access: Access, manifest: dict[str, Any]) -> None:
        self._access, self.manifest = access, manifest
        self._stack: contextlib.AsyncExitStack | None = None
        self.dashboard_link = ""

    @property
    def name(self) -> str:
        """As it stands in the list: what does not compute says why."""
        state = standing(self.manifest)
        name = str(self.manifest["metadata"]["name"])
        return name if state.state == "up" else f"{name} ({state.words})"

    @property
    def scheduler_address(self) -> str:
        """Inside of the Kubernetes cluster; empty while it sleeps."""
        up = standing(self.manifest).state == "up"
        return str((self.manifest.get("status") or {}).get("schedulerAddress") or "") if up else ""

    @property
    def scheduler_info(self) -> dict[str, Any]:
        """Its ready workers, all taken to be as large as those of the default group."""
        ready, _ = counted(self.manifest)
        cpu, memory = size(self.manifest)
        each = {"nthreads": cpu, "memory_limit": memory}
        return {"workers": {str(number): each for number in range(ready)}}

    async def look(self) -> None:
        """Open the way to its dashboard when it wakes, close it when it sleeps."""
        up = standing(self.manifest).state == "up"
        if up and self._stack is None:
            self._stack = contextlib.AsyncExitStack()
            service = names.scheduler(str(self.manifest["metadata"]["name"]))
            forward = forwarded(self._access, service, (Port.DASHBOARD.name,))
            try:
                self.dashboard_link = f"http://127.0.0.1:{await self._stack.enter_async_context(forward)}/status"
            except MissingRight:  # it is listed all the same
                pass
            except DaskGitopsError:  # the Pod may be there at the next look
                await self.forget()
        elif not up:
            await self.forget()

    async def forget(self) -> None:
        """Close the way to its dashboard."""
        if self._stack is not None:
            await connection.close(self._stack)
            self._stack, self.dashboard_link = None, ""

    async def scale(self, n: int) -> None:
        """Ask for ``n`` workers, and wake it."""
        await self._suspend(False)
        for left in reversed(range(_ATTEMPTS)):
            try:
                await scaling.scale(self._access, self.manifest["metadata"]["name"], n, DEFAULT_GROUP)
                break
            except NoSuchObject:  # the group of one that has never been awake is yet to be made
                if not left:
                    raise
                await asyncio.sleep(1)

    def adapt(self, *, minimum: int, maximum: int) -> Adaptive:
        """Let workers follow the load."""
        adapting = scaling.adapt(self._access, self.manifest, minimum, maximum, DEFAULT_GROUP)
        return Adaptive(minimum, maximum, asyncio.ensure_future(adapting))

    async def close(self) -> None:
        """Suspend it: it is Git's, and stays in the list."""
        await self._suspend(True)
        await self.forget()

    async def _suspend(self, suspend: bool) -> None:
        if bool(self.manifest["spec"].get("suspend")) != suspend:
            change = {"spec": {"suspend": suspend}}
            self.manifest = await self._access.patch("DaskCluster", self.manifest["metadata"]["name"], change)


class Sidebar:
    """Keeps the manager of ``dask-labextension`` informed.

    Args:
        manager: its ``DaskClusterManager``.
        access: way to the API server.
    """

    def __init__(self, manager: Any, access: Access) -> None:
        self._manager, self._access = manager, access

    async def refresh(self) -> None:
        """Look once."""
        clusters = {each["metadata"]["uid"]: each for each in await self._all("DaskCluster")}
        autoscalers = await self._all("DaskAutoscaler")
        known = self._manager._clusters
        for uid in [uid for uid, each in known.items() if isinstance(each, Seen) and uid not in clusters]:
            await known.pop(uid).forget()
            self._manager._cluster_names.pop(uid, None)
            self._manager._adaptives.pop(uid, None)
        for uid, manifest in clusters.items():
            seen = known.setdefault(
                uid, Seen(replace(self._access, namespace=manifest["metadata"]["namespace"]), manifest)
            )
            seen.manifest = manifest
            self._manager._cluster_names[uid] = seen.name
            self._adaptive(uid, manifest, autoscalers)
            await seen.look()

    async def close(self) -> None:
        """Close the ways to dashboards."""
        for each in self._manager._clusters.values():
            if isinstance(each, Seen):
                await each.forget()

    def _adaptive(self, uid: str, manifest: Mapping[str, Any], autoscalers: list[dict[str, Any]]) -> None:
        metadata = manifest["metadata"]
        of = [each for each in autoscalers if each["metadata"]["namespace"] == metadata["namespace"]]
        governing = scaling.autoscaler_of(names.default_group(metadata["name"]), metadata["name"], of)
        self._manager._adaptives.pop(uid, None)
        if governing is not None:
            self._manager._adaptives[uid] = Adaptive(*scaling.bounds(governing))

    async def _all(self, kind: str) -> list[dict[str, Any]]:
        try:
            return await self._access.all(kind, everywhere=True)
        except MissingRight:
            return await self._access.all(kind)


def size(cluster: Mapping[str, Any]) -> tuple[int, int]:
    """Processors and bytes of a worker of the default group, as its first container's limits or requests say."""
    worker = ((cluster.get("spec") or {}).get("worker") or {}).get("spec") or {}
    stated = next((each.get("resources") or {} for each in worker.get("containers") or ()), {})
    amounts = {**(stated.get("requests") or {}), **(stated.get("limits") or {})}
    try:
        cpu, memory = (parse_quantity(amounts.get(name, "0")) for name in ("cpu", "memory"))
    except ValueError:
        return 0, 0
    return max(int(cpu), 1), int(memory)


async def watch(manager: Any, warn: Callable[[Exception], None]) -> None:
    """Keep a manager informed, until it is cancelled.

    Args:
        manager: see `Sidebar`.
        warn: told why there was nothing to see, once as long as that is so.
    """
    sidebar, told = None, ""
    try:
        while True:
            try:
                sidebar = sidebar or Sidebar(manager, await Access.open())
                await sidebar.refresh()
                told = ""
            except Exception as error:  # nobody would begin anew
                if told != str(error):
                    warn(error)
                told = str(error)
            await asyncio.sleep(_INTERVAL)
    finally:
        if sidebar is not None:
            await sidebar.close()


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .jupyter_server import SidebarApp

    return [{"module": SidebarApp.__module__, "app": SidebarApp}]
