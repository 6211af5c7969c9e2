"""HTTP client of the scheduler extension (``dask_resources.scheduler_extension``)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import aiohttp
import msgspec

from ..core.actions import Progress, TargetQuestion, Versions, Worker

PREFIX = "/dask-gitops/v1"

_T = TypeVar("_T")


class SchedulerError(Exception):
    """There is no usable answer from the scheduler; the message is for people.

    Attributes:
        kind: ``Unreachable``: no answer; it may just be starting. ``NoExtension``: it answers, but has not loaded the
            extension, as where ``--preload`` in a shell script hides it; distributed's own HTTP API would not help, as
            it is off by default and knows no groups. ``Unexpected``: it answers otherwise than agreed.
    """

    def __init__(self, kind: Literal["Unreachable", "NoExtension", "Unexpected"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


class WorkerState(msgspec.Struct, frozen=True):
    """One worker process, as the scheduler sees it."""

    name: str
    host: str  #: IP address
    status: str  #: of ``distributed.core.Status``; ``closing_gracefully`` while it drains
    address: str = ""
    nthreads: int = 0
    nbytes: int = 0  #: of the results that it holds
    processing: int = 0  #: tasks that it runs or has queued
    resources: dict[str, float] = {}


class Tasks(msgspec.Struct, frozen=True):
    """Numbers of tasks."""

    total: int = 0
    processing: int = 0
    queued: int = 0  #: on the scheduler, for any worker
    unrunnable: int = 0  #: no present worker may run them


class State(msgspec.Struct, frozen=True):
    """The scheduler at a glance."""

    version: str  #: of the extension
    distributed: str
    id: str  #: another one after each restart
    idle_seconds: float | None  #: ``None`` while it is busy
    workers: tuple[WorkerState, ...]
    tasks: Tasks = Tasks()


class _Names(msgspec.Struct):
    workers: list[str]


class _States(msgspec.Struct):
    workers: dict[str, str]


class _Target(msgspec.Struct):
    target: int


class _Complaint(msgspec.Struct):
    message: str = ""


class Scheduler:
    """One scheduler.

    Args:
        url: base URL of its dashboard port.
        session: for the requests.
        timeout_seconds: for a whole request; the scheduler answers from memory, so longer means that it is stuck.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, *, timeout_seconds: float = 5.0) -> None:
        self._url = url.rstrip("/")
        self._session = session
        self._seconds = timeout_seconds
        self._limits = aiohttp.ClientTimeout(total=None, connect=2.0)

    async def state(self) -> State:
        """The scheduler at a glance."""
        return await self._call("GET", "state", State)

    async def progress(self) -> Progress:
        """How far the tasks are that were submitted so far."""
        return await self._call("GET", "progress", Progress)

    async def versions(self) -> Versions:
        """The versions of scheduler, workers and clients."""
        return await self._call("GET", "versions", Versions)

    async def retire(self, workers: Iterable[Worker]) -> dict[str, str]:
        """Tell workers to go, and how far they are, by name; to be repeated until they are ``retired``.

        Returns:
            By name: ``retired``, ``retiring: <what is left>``, ``unknown`` (not registered), or ``refused: <why>`` (it
            works on).
        """
        return (await self._call("POST", "retire", _States, workers)).workers

    async def resume(self, workers: Iterable[Worker]) -> dict[str, str]:
        """Take retirements back.

        Returns:
            By name: ``resuming``, ``unknown`` (not registered), or the status of a worker that need not be resumed.
        """
        return (await self._call("POST", "resume", _States, workers)).workers

    async def workers_to_close(self, workers: Iterable[Worker], n: int | None = None) -> list[str]:
        """The first ``n`` (default: all) of the given workers, the cheapest to close first."""
        return (await self._call("POST", "workers_to_close", _Names, workers, n=n)).workers

    async def adaptive_target(self, question: TargetQuestion, *, target_duration: float | None = None) -> int:
        """How many workers a group should have.

        Args:
            question: the group and the others of its cluster.
            target_duration: seconds in which the work should be done; default by the scheduler's configuration.
        """
        group, others = msgspec.to_builtins(question.group), msgspec.to_builtins((question.before, question.after))
        # The group's own fields stand at the top, where a module that knows no other groups looks for them.
        del group["workers"]
        group |= {"before": others[0], "after": others[1], "target_duration": target_duration}
        return (await self._call("POST", "adaptive_target", _Target, question.group.workers, **group)).target

    async def _call(
        self, method: str, route: str, answer: type[_T], workers: Iterable[Worker] | None = None, **more: Any
    ) -> _T:
        body = None if workers is None else {"workers": [{"name": w.name, "ip": w.ip} for w in workers], **more}
        try:
            async with (
                asyncio.timeout(self._seconds),  # not aiohttp's, see `kubernetes._LIMITS`
                self._session.request(
                    method, f"{self._url}{PREFIX}/{route}", json=body, timeout=self._limits, allow_redirects=False
                ) as response,
            ):
                status, text = response.status, await response.read()
        except TimeoutError as error:
            raise SchedulerError("Unreachable", "the scheduler does not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise SchedulerError("Unreachable", f"the scheduler cannot be reached: {type(error).__name__}") from error
        if status == 404:
            raise SchedulerError("NoExtension", "the scheduler has not loaded the operator's extension")
        if status != 200:
            raise SchedulerError("Unexpected", f"the scheduler answers {status} to {route}{_complaint(text)}")
        try:
            return msgspec.json.decode(text, type=answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SchedulerError(
                "Unexpected", f"the scheduler's answer to {route} is not as agreed: {error}"
            ) from error


def _complaint(text: bytes) -> str:
    try:
        message = msgspec.json.decode(text, type=_Complaint).message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return f": {message}" if message else ""
