"""The HTTP server for probes and metrics."""

from __future__ import annotations

import aiohttp

from dask_controller.shell.metrics import Metrics, serve


async def test_probes_say_what_is_wrong() -> None:
    problems: list[str | None] = [None]
    metrics = Metrics()
    metrics.requested("get", "pods", 200)
    probes = serve(metrics, healthy=lambda: problems[0], ready=lambda: "filling", port=0, host="127.0.0.1")
    async with probes as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(path) as response:
                return response.status, await response.text()

        assert await get("/healthz") == (200, "ok")
        problems[0] = "stuck"
        assert await get("/healthz") == (503, "stuck")
        assert await get("/readyz") == (503, "filling")
        status, text = await get("/metrics")
        assert status == 200
        assert 'rest_client_requests_total{code="200",resource="pods",verb="get"} 1.0' in text
        assert "process_resident_memory_bytes" in text
