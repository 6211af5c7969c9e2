"""The process that is the operator, against a stub of the API server."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from tests.integration.test_handlers import event, serving

from dask_crds.kinds import RESOURCES
from dask_crds.model import KINDS
from dask_crds.names import API_VERSION


class Site:
    """An API server that has an autoscaler as its status says, and one that was changed; it is silent to kopf."""

    def __init__(self) -> None:
        self.read = asyncio.Queue[str]()  #: paths of single objects

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(f"/apis/{API_VERSION}")
        if request.path in ("/api", "/apis") or "watch" in request.query:
            await asyncio.sleep(60)
        if not path:
            return web.json_response({"resources": [{"name": RESOURCES[kind].plural} for kind in KINDS]})
        if path.startswith("/apis/kueue"):  # it has none
            return web.json_response({"kind": "Status", "code": 404}, status=404)
        if "limit" not in request.query:
            self.read.put_nowait(path)
            return web.json_response({"kind": "Status", "code": 404}, status=404)
        items: list[dict[str, Any]] = []
        if path == "/namespaces/team/daskautoscalers":
            for name, generation in (("seen", 1), ("changed", 2)):
                autoscaler = event("DaskAutoscaler", name, generation, "1")
                items.append({**autoscaler, "spec": {"cluster": "c"}, "status": {"observedGeneration": 1}})
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})


async def test_who_begins_to_lead_looks_first_at_what_nobody_has_looked_at(tmp_path: Path) -> None:
    """Before kopf, which lists all that has been there for long, has told of anything."""
    site, config = Site(), tmp_path / "config"
    async with serving(site.answer) as url:
        only = {"name": "x", "cluster": {"server": url}, "context": {"cluster": "x", "user": "x"}, "user": {}}
        config.write_text(
            yaml.safe_dump({"current-context": "x", "clusters": [only], "contexts": [only], "users": [only]})
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dask_controller", "run", "--namespace", "team", "--port", "0"),
            env=os.environ | {"KUBECONFIG": str(config)},
        )
        try:
            assert await asyncio.wait_for(site.read.get(), 60) == "/namespaces/team/daskautoscalers/changed"
        finally:
            process.kill()
            await process.wait()
    assert site.read.empty(), "of the other one there is nothing to say"
