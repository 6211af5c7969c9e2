"""Operators, each for a namespace of its own, and what can be done to them and to Dask: faults that raise alerts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from dask_controller.kube.client import Kubernetes
from dask_controller.kube.credentials import find
from tests.cluster import ControlPlane
from tests.cluster.processes import free_port
from tests.e2e.support import Manifests
from tests.faults.observer import Observer
from tests.faults.schedulers import MOODS, Schedulers
from tests.faults.stranger import STRANGER, Hand
from tests.support.controller import Controller
from tests.support.fault_proxy import FaultProxy
from tests.support.patience import Patience


@dataclass
class Site:
    """Where faults are injected."""

    plane: ControlPlane
    folder: Path
    prefix: str
    user: Hand
    schedulers: Schedulers
    stack: contextlib.AsyncExitStack
    running: dict[str, Controller] = field(default_factory=dict)
    relays: dict[str, FaultProxy] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    async def apply(self, where: str, manifest: dict[str, Any]) -> None:
        metadata = {**manifest["metadata"], "namespace": self.namespace(where)}
        await self.user.apply({**manifest, "metadata": metadata}, manager="user")

    async def ready(self, where: str, cluster: str) -> None:
        """Wait until it is."""
        patience = Patience(120)
        while patience.lasts():
            found = await self.user.get("DaskCluster", self.namespace(where), cluster)
            conditions = (((found or {}).get("status") or {}).get("conditions")) or ()
            if any((c["type"], c["status"]) == ("Ready", "True") for c in conditions):
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"{cluster} is not ready")

    def kube(self, where: str) -> Manifests:
        return Manifests(self.plane.kubeconfig, self.namespace(where))

    def namespace(self, where: str) -> str:
        return f"{self.prefix}-{where}"

    def port(self, of: str) -> int:
        return self.ports.setdefault(of, free_port())

    async def operator(self, name: str, *arguments: str) -> None:
        """An operator of its own, for a namespace of the same name, behind a relay."""
        relay = await self.stack.enter_async_context(FaultProxy(find(str(self.plane.kubeconfig))))
        self.relays[name] = relay
        cluster = {"name": "c", "cluster": {"server": relay.url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
        content = {"clusters": [cluster], "contexts": [context], "users": [{"name": "c", "user": {}}]}
        file = self.folder / f"{name}.kubeconfig"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c", **content}))
        port = ("--port", str(self.port(name)))
        self.running[name] = Controller(self.plane, self.namespace(name), *port, *arguments, kubeconfig=file)
        self.stack.callback(self.running[name].kill)

    async def cluster(self, where: str, name: str, **spec: Any) -> None:
        workers, labels, scheduler = spec.pop("workers", 1), spec.pop("labels", {}), spec.pop("scheduler_extra", {})
        manifest = self.kube(where).cluster_manifest(name, workers=workers, **spec)
        manifest["metadata"]["labels"] = labels
        manifest["spec"]["scheduler"] |= scheduler
        self._played(manifest["spec"])
        await self.apply(where, manifest)

    async def job(self, name: str, *, code: int | None = None, played: bool = True, **spec: Any) -> None:
        manifest = self.kube("main").job_manifest(name, "pass", workers=2, **spec)
        if played:
            self._played(manifest["spec"]["cluster"]["spec"])
        if code is not None:
            manifest["spec"]["job"]["metadata"] = {"annotations": {"test.dask.org/exit-code": str(code)}}
        await self.apply("main", manifest)

    def _played(self, spec: dict[str, Any]) -> None:
        """Where the scheduler is asked."""
        ports = [{"name": "http-dashboard", "containerPort": self.port("schedulers")}]
        spec["scheduler"]["spec"]["containers"][0]["ports"] = ports

    def dask(self, trouble: str) -> None:
        """A real scheduler in trouble."""
        command = (sys.executable, "-m", "tests.support.troubled_dask", trouble, str(self.port(trouble)))
        self.plane.processes.start(trouble, *command, env={"PYTHONPATH": ":".join(sys.path)})
        self.stack.callback(self.plane.processes.stop, trouble, seconds=0)


def _clinging(question: dict[str, Any], retiring: set[str]) -> dict[str, Any]:
    """Honest, but for workers on their way out, who go on holding what they have."""
    said = MOODS["honest"](question, retiring)
    return said | {"retirement": dict.fromkeys(said.get("retirement", ()), "retiring: 1 tasks and 3 results left")}


@asynccontextmanager
async def site_of(plane: ControlPlane, namespace: str, folder: Path) -> AsyncIterator[Site]:
    """Operators that have nothing to complain about, and a little for them to do; all is gone afterwards."""
    upstream, port = find(str(plane.kubeconfig)), free_port()
    async with (
        Kubernetes(upstream, STRANGER) as kubernetes,
        Hand(upstream, STRANGER) as hand,
        Observer(kubernetes) as observer,
        contextlib.AsyncExitStack() as stack,
    ):
        stack.enter_context(mock.patch.dict(MOODS, clinging=_clinging))

        async def patch(pod: dict[str, Any], change: dict[str, Any], subresource: str) -> None:
            where, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            await hand.patch("Pod", where, name, change, subresource=subresource)

        schedulers = Schedulers(port, patch)
        stack.push_async_callback(schedulers.close)
        schedulers.speak("clinging")
        made = Site(plane, folder, namespace, hand, schedulers, stack, ports={"schedulers": port})
        for where in ("main", "quota", "down", "slow", "refused", "throttled", "blind"):
            named = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace(where)}}
            await kubernetes.create(named)
            stack.push_async_callback(kubernetes.delete, "Namespace", None, made.namespace(where))
            observer.record(made.namespace(where)).seen = schedulers.seen
        await made.operator("main", "--namespace", made.namespace("quota"))
        for name in ("down", "refused", "throttled"):
            await made.operator(name)
        await made.operator("slow", "--workers", "1")
        for name in ("well", "loses"):
            await made.cluster("main", name)
        await made.cluster("main", "drains", workers=2, worker_extra={"drainTimeoutSeconds": 3})
        await made.job("succeeds", code=0)
        for name in ("well", "loses", "drains"):
            await made.ready("main", name)
        yield made
