"""Dask schedulers of a life, as the operator meets them: each Pod has an address of its own, where one answers.

Fake nodes give Pods no address. Here the scheduler Pods of a life get one of 127.0.0.0/8 as soon as they are seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from bench.fake_scheduler import answer_one

from dask_controller.kube.api import ApiError
from dask_crds.names import Component, Label

from .observer import Change, Manifest

YEAR = 365 * 24 * 3600.0
_addresses = itertools.count(1)
#: Answers that no module gives.
NONSENSE: tuple[bytes, ...] = (
    b"",
    b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
    *(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        for body in (
            b"null",
            b'{"answers": []}',
            b'{"answers": [{"idle_seconds": -1, "registered": [1], "target": 1e400, "retirement": ["x"]}]}',
            b'{"answers": [{"idle_seconds": "1 year", "registered": "all", "ranked": {}, "progress": []}]}',
            b'{"answers": ' + b"[" * 900 + b"]" * 900 + b"}",
        )
    ),
)


def _idle(question: Manifest, _: set[str]) -> Manifest:
    return {**answer_one(question), "idle_seconds": YEAR}


def _forgetful(question: Manifest, _: set[str]) -> Manifest:
    """It knows none of the workers, nor those whom it shall retire."""
    said = answer_one(question)
    retirement = dict.fromkeys(said.get("retirement", ()), "unknown")
    progress = {"total": 0, "done": 0, "workers": 0}
    return said | {"registered": [], "ranked": [], "retirement": retirement, "progress": progress}


def _hasty(question: Manifest, _: set[str]) -> Manifest:
    """All have retired, those too who were not asked to; and it wants a million."""
    said = answer_one(question)
    asked = [*said.get("registered", ()), *said.get("retirement", ())]
    return said | {"retirement": dict.fromkeys(asked, "retired"), "target": 10**6}


def _honest(question: Manifest, retiring: set[str]) -> Manifest:
    """A worker has retired when it is asked for the second time."""
    said = answer_one(question)
    if "retirement" in said:
        said["retirement"] = {name: "retired" if name in retiring else "retiring" for name in said["retirement"]}
        retiring.update(said["retirement"])
    if "progress" in said:
        said["progress"] = {"total": 10, "done": 5, "workers": 100}
    return said


#: What is said to one question, of those who speak as agreed. Others are silent, refuse, talk nonsense, or slowly.
MOODS: dict[str, Callable[[Manifest, set[str]], Manifest]] = {
    "honest": _honest,
    "idle": _idle,
    "forgetful": _forgetful,
    "hasty": _hasty,
}


class Schedulers:
    """Those of one life.

    Args:
        port: where they listen.
        patch: changes a Pod's status: it gets its address.

    Attributes:
        mood: how they answer now.
        turned: whether that has ever changed.
        moods: how single ones do, whatever the others: by the uid of their Pod.
        asked: how often each was asked, by the uid of its Pod.
    """

    def __init__(self, port: int, patch: Callable[..., Any]) -> None:
        self._port = port
        self._patch = patch
        self._servers: dict[str, asyncio.Server | None] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: defaultdict[str, set[str]] = defaultdict(set)
        self.mood = "honest"
        self.turned = False
        self.moods: dict[str, str] = {}
        self.asked: Counter[str] = Counter()

    def speak(self, mood: str) -> None:
        """From now on they answer like this."""
        self.mood, self.turned = mood, True

    def seen(self, change: Change) -> None:
        """Something has happened: a scheduler Pod that has no address gets one."""
        labels = change.metadata.get("labels") or {}
        if change.kind != "Pod" or labels.get(Label.COMPONENT) != Component.SCHEDULER:
            return
        if change.type == "DELETED" or change.uid in self._servers:
            return
        self._servers[change.uid] = None
        task = asyncio.get_running_loop().create_task(self._listen(change.manifest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Nobody listens any more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in filter(None, self._servers.values()):
            server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _listen(self, pod: Manifest) -> None:
        uid, n = pod["metadata"]["uid"], next(_addresses)
        ip = f"127.{64 + n // 65536 % 128}.{n // 256 % 256}.{n % 256}"
        self._servers[uid] = await asyncio.start_server(functools.partial(self._serve, uid), ip, self._port)
        with contextlib.suppress(ApiError):  # it has gone
            await self._patch(pod, {"status": {"podIP": ip, "podIPs": [{"ip": ip}]}}, "status")

    async def _serve(self, uid: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._answer(uid, reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the other side has gone, or all is over
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, uid: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = json.loads(await reader.readexactly(int(fields.get("content-length", 0))) or b"{}")
            self.asked[uid] += 1
            mood = self.moods.get(uid, self.mood)
            match mood:
                case "silent":
                    await reader.read()  # until the other side has had enough
                    return
                case "refusing":
                    writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                case "nonsense":
                    writer.write(random.choice(NONSENSE))
                    return
                case "drip":
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                    while True:
                        writer.write(b" ")
                        await writer.drain()
                        await asyncio.sleep(0.5)
                case _:
                    said = [MOODS[mood](question, self._retiring[uid]) for question in body.get("questions", ())]
                    content = json.dumps({"answers": said}).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
            await writer.drain()
