"""HTTP client of the scheduler extension (``dask_resources.scheduler_extension``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp
import msgspec

from ..core.actions import Worker

PREFIX = "/dask-gitops/v1"


class SchedulerError(Exception):
    """The scheduler did not answer; the message is for people."""


class WorkerState(msgspec.Struct, frozen=True):
    """One worker process, as the scheduler sees it."""

    name: str
    host: str
    status: str


class State(msgspec.Struct, frozen=True):
    """The scheduler at a glance."""

    version: str
    distributed: str
    id: str
    idle_seconds: float | None
    workers: tuple[WorkerState, ...]


class Scheduler:
    """One scheduler.

    Args:
        url: base URL of its dashboard port.
        session: for the requests.
        timeout_seconds: for a whole request; the scheduler answers from memory, so longer means that it is stuck.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, *, timeout_seconds: float = 5.0) -> None:
        self._url = url
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=2.0)

    async def state(self) -> State:
        """The scheduler at a glance."""
        return msgspec.convert(await self._call("GET", "state"), State)

    async def retire(self, workers: Iterable[Worker]) -> dict[str, str]:
        """Tell workers to go, and how far they are, by name; may be repeated."""
        answer = await self._call("POST", "retire", workers)
        return dict(answer["workers"])

    async def resume(self, workers: Iterable[Worker]) -> None:
        """Take retirements back."""
        await self._call("POST", "resume", workers)

    async def workers_to_close(self, workers: Iterable[Worker]) -> list[str]:
        """The given workers, the cheapest to close first."""
        answer = await self._call("POST", "workers_to_close", workers)
        return list(answer["workers"])

    async def adaptive_target(self, workers: Iterable[Worker], resources: Mapping[str, float]) -> int:
        """How many workers would do, given that a group has these and each offers ``resources``."""
        answer = await self._call("POST", "adaptive_target", workers, resources=dict(resources))
        return int(answer["target"])

    async def _call(self, method: str, route: str, workers: Iterable[Worker] | None = None, **more: Any) -> Any:
        body = None if workers is None else {"workers": [msgspec.to_builtins(w) for w in workers], **more}
        try:
            async with self._session.request(
                method, f"{self._url}{PREFIX}/{route}", json=body, timeout=self._timeout
            ) as response:
                if response.status == 404:
                    raise SchedulerError("the scheduler has not loaded the operator's extension")
                if response.status != 200:
                    raise SchedulerError(f"the scheduler answered {response.status} to {route}")
                return msgspec.json.decode(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SchedulerError(f"the scheduler cannot be reached: {type(error).__name__}") from error
