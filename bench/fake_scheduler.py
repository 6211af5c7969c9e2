"""One process that plays the Dask schedulers of many clusters, for ``python bench/fake_scheduler.py MODE``.

It listens on every address of this machine, so that each Pod can have one of its own in 127.0.0.0/8. It knows any
worker that it is asked about, is never idle, and wants as many workers as there are. How it answers is its mode:

    answer   at once
    silent   never: it accepts connections and reads requests
    drip     a byte a second, for hours

``GET /asked`` is answered in any mode: numbers of connections, requests, and questions so far.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
from typing import Any

PORT = 8787  #: of the dashboard, where the operator asks
MODES = ("answer", "silent", "drip")
WORKERS = 2  #: how many workers the load wants
PREFIX = "/dask-gitops/v1/"

_SET = {"python": "3.12", "dask": "2026.8.0", "distributed": "2026.8.0", "msgpack": "1.1.0"}
_VERSIONS = {"scheduler": [_SET], "workers": [_SET], "clients": []}
_PROGRESS = {"total": 0, "done": 0, "workers": WORKERS}


class Fake:
    """The schedulers.

    Args:
        mode: one of `MODES`.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.asked = {"connections": 0, "requests": 0, "questions": 0}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.asked["connections"] += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                path = head.split(" ", 2)[1]
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = json.loads(await reader.readexactly(int(fields.get("content-length", 0))) or b"{}")
                if path == "/asked":
                    writer.write(_response(json.dumps(self.asked).encode()))
                    continue
                self.asked["requests"] += 1
                self.asked["questions"] += len(body["questions"]) if path == f"{PREFIX}ask" else 1
                match self.mode:
                    case "answer":
                        writer.write(_response(json.dumps(answer(path.removeprefix(PREFIX), body)).encode()))
                    case "silent":
                        await reader.read()  # until the other side has had enough
                        return
                    case "drip":
                        writer.write(_head(1 << 20))
                        while True:
                            writer.write(b" ")  # JSON may begin with any number of these
                            await writer.drain()
                            await asyncio.sleep(1)
                await writer.drain()


def _response(body: bytes) -> bytes:
    return _head(len(body)) + body


def _head(length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()


def answer(route: str, body: dict[str, Any]) -> dict[str, Any]:
    """What a scheduler answers to one request."""
    match route:
        case "ask":
            return {"answers": [answer_one(question) for question in body["questions"]]}
        case "state":
            versions = {"version": "3", "distributed": _SET["distributed"], "id": "fake"}
            return {**versions, "idle_seconds": None, "workers": []}
        case "progress":
            return _PROGRESS
        case "versions":
            return _VERSIONS
        case "adaptive_target":
            return {"target": WORKERS}
        case "workers_to_close":
            return {"workers": _names(body)[: body.get("n")]}
        case "retire":
            return {"workers": dict.fromkeys(_names(body), "retired")}
        case "resume":
            return {"workers": dict.fromkeys(_names(body), "running")}
    raise ValueError(f"no such route: {route}")


def answer_one(question: dict[str, Any]) -> dict[str, Any]:
    """What it answers to one of several questions: nothing that was not asked."""
    found: dict[str, Any] = {}
    if question.get("idle"):
        found["idle_seconds"] = None
    if question.get("progress"):
        found["progress"] = _PROGRESS
    if question.get("versions"):
        found["versions"] = _VERSIONS
    if question.get("registered"):
        found["registered"] = _names(question, "registered")
    if question.get("rank"):
        found["ranked"] = _names(question, "rank")
    if question.get("retire"):
        found["retirement"] = dict.fromkeys(_names(question, "retire"), "retired")
    if question.get("target"):
        found["target"] = WORKERS
    return found


def _names(question: dict[str, Any], field: str = "workers") -> list[str]:
    return [worker if isinstance(worker, str) else worker["name"] for worker in question[field]]


async def main(mode: str) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(Fake(mode).serve, "0.0.0.0", PORT, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=MODES)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection for each cluster, and more
    asyncio.run(main(parser.parse_args().mode))
