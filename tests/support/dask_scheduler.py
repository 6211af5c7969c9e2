"""A scheduler of the installed distributed that has preloaded our module, with workers and the operator's client."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import aiohttp
import dask
from distributed import Client, Scheduler, Worker

import dask_resources
from dask_controller.core.questions import Claim, Target
from dask_controller.core.questions import WorkerId as Pod
from dask_controller.schedulers.answers import Request
from dask_controller.schedulers.client import SchedulerClient as Extension
from dask_resources.scheduler_extension import MODULE as _PRELOADED
from tests.support.questions import ask_of, parts

MODULE = Path(dask_resources.__file__).parent / "in_pod" / "scheduler" / _PRELOADED
ROUTES = "/dask-gitops/v1"


async def until(condition, seconds: float = 60):
    """Wait for a condition that may be a coroutine function; its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        value = await value if asyncio.iscoroutine(value) else value
        if value:
            return value
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


def pods(*names: str) -> tuple[Pod, ...]:
    return tuple(Pod(name) for name in names)


async def ask(extension: Extension, **asked) -> SimpleNamespace:
    """The answers to one ask, by their fields."""
    return parts((await extension.put(Request([ask_of(**asked)]))).answers[0])


def having(*names: str, maximum: int = 1000, **share) -> Claim:
    """A worker group that has these workers."""
    return Claim(workers=pods(*names), maximum=maximum, **share)


class Rig:
    """A scheduler that has preloaded the module, its workers, a client, and the operator's view of it."""

    def __init__(self, scheduler: Scheduler, client: Client, session: aiohttp.ClientSession, gate: Path) -> None:
        self.scheduler, self.client, self.session, self._gate = scheduler, client, session, gate
        self.url = f"http://127.0.0.1:{scheduler.http_server.port}"
        self.extension = Extension(self.url)
        self.workers: dict[str, Worker] = {}

    async def add(self, *names: str, nthreads: int = 1, **options) -> None:
        # The tests' process takes more memory than a worker in it may be given.
        unconcerned = {f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause")}
        for name in names:
            with dask.config.set(unconcerned):
                self.workers[name] = await Worker(
                    self.scheduler.address, name=name, nthreads=nthreads, dashboard_address=":0", **options
                )

    def hold(self, number: int = 1, **options):
        """Tasks that last until :meth:`release`, half a second by the scheduler's guess."""
        gates = [str(self._gate)] * number
        return self.client.map(held, gates, range(number), pure=False, **options)

    def release(self) -> None:
        self._gate.touch()

    async def close(self, *names: str) -> None:
        for name in names:
            await self.workers.pop(name).close()

    async def ask(self, **asked) -> SimpleNamespace:
        return await ask(self.extension, **asked)

    async def retirement(self, *names: str) -> dict[str, str]:
        """How far the retirement of these is; it begins with the first question."""
        return (await self.ask(retire=pods(*names))).retirement

    async def retire(self, *names: str, until_it_says: str = "retired") -> dict[str, str]:
        async def asked():
            answer = await self.retirement(*names)
            return all(text.startswith(until_it_says) for text in answer.values()) and answer

        return await until(asked)

    async def resume(self, *workers: Pod) -> dict[str, str]:
        """What becomes of each."""
        status, answer = await self.post(
            "resume", {"workers": [{"name": w.name, "ip": "".join(w.ips)} for w in workers]}
        )
        assert status == 200
        return answer["workers"]

    async def ranked(self, *names: str) -> list[str]:
        return list((await self.ask(rank=pods(*names))).ranked)

    async def target(self, *names: str, before=(), after=(), target_duration=5, **share) -> int:
        """The adaptive target of the group that has these workers."""
        question = Target(group=having(*names, **share), before=tuple(before), after=tuple(after))
        with dask.config.set({"distributed.adaptive.target-duration": f"{target_duration}s"}):
            return (await self.ask(target=question)).target

    async def get(self, route: str):
        """What a route answers to GET."""
        async with self.session.get(f"{self.url}{ROUTES}/{route}") as response:
            assert response.status == 200
            return await response.json()

    async def post(self, route: str, body) -> tuple[int, dict]:
        async with self.session.post(f"{self.url}{ROUTES}/{route}", json=body) as response:
            return response.status, await response.json()

    def state_of(self, name: str):
        return next(ws for ws in self.scheduler.workers.values() if ws.name == name)

    def status(self, name: str) -> str:
        return self.state_of(name).status.name


@asynccontextmanager
async def running(module: Path) -> AsyncIterator[Rig]:
    with TemporaryDirectory() as folder:
        async with (
            Scheduler(port=0, dashboard_address="127.0.0.1:0", preload=[str(module)]) as scheduler,
            Client(scheduler.address, asynchronous=True) as client,
            aiohttp.ClientSession() as session,
        ):
            rig = Rig(scheduler, client, session, Path(folder) / "gate")
            try:
                yield rig
            finally:
                rig.release()
                rig.extension.close()
                await rig.close(*list(rig.workers))


def logged(path: str, key, seconds: float = 0.0, *dependencies):
    """A task that leaves a trace of each of its runs."""
    with open(path, "a") as out:
        out.write(f"{key}\n")
    time.sleep(seconds)
    return key


def runs(path: Path) -> Counter:
    return Counter(path.read_text().split())


def held(gate: str, number: int) -> int:
    """A task that lasts until there is such a file."""
    while not os.path.exists(gate):
        time.sleep(0.02)
    return number
