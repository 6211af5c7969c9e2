"""The page that is kopf: run by kopf itself, against a stub that tells what was asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import kopf
import pytest
from aiohttp import web

from dask_controller.kube.client import Kubernetes
from dask_controller.kube.credentials import Endpoint
from dask_controller.shell import handlers as handlers
from dask_controller.shell.caches import Key
from dask_controller.shell.caller import OPERATOR
from dask_controller.shell.wakeups import CLUSTER_GATHER_SECONDS, GATHER_SECONDS
from dask_crds.kinds import RESOURCES
from dask_crds.model import KINDS
from dask_crds.names import API_VERSION, GROUP, VERSION

#: Ours, and one that another release may bring.
SERVED = {**{RESOURCES[kind].plural: kind for kind in KINDS}, "daskothers": "DaskOther"}


def event(kind: str, name: str, generation: int, version: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "team", "uid": f"{kind} {name}", "generation": generation}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {**metadata, "resourceVersion": version}}


class Site:
    """An API server that lists one object of each kind, and then tells that its status, and its spec have changed."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []  #: method and path
        self.accepted: set[str] = set()  #: what is accepted for an answer
        self.identities: list[str] = []
        self.woken: list[tuple[Key, float, bool]] = []
        self.complete = asyncio.Event()

    def add_after(self, key: Key, seconds: float, *, prompt: bool) -> None:
        self.woken.append((key, seconds, prompt))
        if len(self.woken) == 3 * len(KINDS):
            self.complete.set()

    async def authorization(self, *, rejected: bool = False) -> str:
        return "Bearer new" if rejected else "Bearer old"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.identities.append(request.headers["Authorization"])
        if self.identities[-1] != "Bearer new":
            return web.json_response({"kind": "Status", "code": 401}, status=401)
        self.asked.append((request.method, request.path))
        if request.path == "/api":
            return web.json_response({"versions": ["v1"]})
        if request.path == "/api/v1":
            namespaces = {"name": "namespaces", "singularName": "", "namespaced": False, "kind": "Namespace"}
            return web.json_response({"resources": [{**namespaces, "verbs": []}]})
        if request.path == "/apis":
            version = {"groupVersion": API_VERSION, "version": VERSION}
            return web.json_response({"groups": [{"name": GROUP, "versions": [version], "preferredVersion": version}]})
        if request.path == f"/apis/{API_VERSION}":
            verbs = ["get", "list", "watch", "patch"]
            served = [
                {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
                for plural, kind in SERVED.items()
            ]
            return web.json_response({"resources": served})
        self.accepted.add(request.headers["Accept"])
        kind = SERVED[request.path.rpartition("/")[2]]
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": [event(kind, "x", 1, "1")]})
        return await self._stream(request, kind)

    async def _stream(self, request: web.Request, kind: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for generation, version in ((1, "2"), (2, "3")):
            change = {"type": "MODIFIED", "object": event(kind, "x", generation, version)}
            await response.write(web.json_response(change).body + b"\n")  # type: ignore[operator]
        await asyncio.sleep(60)
        return response


@contextlib.asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """The URL at which every request gets that answer."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@contextlib.asynccontextmanager
async def served(site: Site) -> AsyncIterator[Endpoint]:
    async with serving(site.answer) as url:
        yield Endpoint(url, ssl.create_default_context(), site.authorization)


@pytest.mark.parametrize("scope", [{"clusterwide": True}, {"namespaces": ["team"]}], ids=["all", "one"])
async def test_kopf_wakes_what_has_changed_and_asks_for_nothing_else(scope: Any) -> None:
    site, caches = Site(), SimpleNamespace(cached=lambda key: {"status": {"observedGeneration": 1}})
    async with served(site) as endpoint, Kubernetes(endpoint, OPERATOR) as kubernetes:
        memo = kopf.Memo(kubernetes=kubernetes, caches=caches, queue=site)
        operator = asyncio.create_task(kopf.operator(memo=memo, standalone=True, identity="x", **scope))  # type: ignore[arg-type]
        try:
            await asyncio.wait_for(site.complete.wait(), 60)
        finally:
            operator.cancel()
            await asyncio.wait([operator])
    for kind in KINDS:
        gather = CLUSTER_GATHER_SECONDS if kind == "DaskCluster" else GATHER_SECONDS
        looks = [(seconds, prompt) for key, seconds, prompt in site.woken if key == Key(kind, "team", "x")]
        assert looks == [(gather, False), (gather, False), (0.0, True)], "seen before; its status; its spec"
    where = f"/apis/{API_VERSION}" if "clusterwide" in scope else f"/apis/{API_VERSION}/namespaces/team"
    listed = {("GET", f"{where}/{RESOURCES[kind].plural}") for kind in KINDS}
    discovery = {("GET", path) for path in ("/api", "/api/v1", "/apis", f"/apis/{API_VERSION}")}
    assert set(site.asked) == discovery | listed
    assert all("as=PartialObjectMetadata" in accept for accept in site.accepted), "a spec may have a megabyte"
    assert site.identities.count("Bearer new") == site.identities.count("Bearer old"), "each request once more"


async def test_who_is_not_accepted_sends_the_whole_request_again() -> None:
    bodies = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.text())
        accepted = request.headers["Authorization"] == "Bearer new"
        return web.json_response({"kind": "ConfigMap"}, status=201 if accepted else 401)

    site = Site()
    site.answer = answer  # type: ignore[method-assign, assignment]
    async with served(site) as endpoint, Kubernetes(endpoint, OPERATOR) as kubernetes:
        manifest = {"kind": "ConfigMap", "metadata": {"namespace": "team", "name": "x"}, "data": {"a": "b" * 100_000}}
        assert await kubernetes.create(manifest) == {"kind": "ConfigMap"}
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert len(bodies[0]) > 100_000
