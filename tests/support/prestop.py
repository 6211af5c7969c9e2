"""The preStop hook of workers as a Pod runs it, and a server that plays the scheduler."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from dask_resources.worker_hook import with_drain


class Scheduler(HTTPServer):
    """Gives the answers in turn, the last one for ever; keeps the questions."""

    def __init__(self, *answers: Any, port: int = 0, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)
        self.answers = list(answers)
        self.questions: list[Any] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Scheduler

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.questions.append((self.path, self.headers["Content-Type"], body))
        answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        self.send_response(answer if isinstance(answer, int) else 200)
        self.end_headers()
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps({"workers": {"w": answer}}).encode())

    def log_message(self, *_: object) -> None:
        pass


#: Stands for `socket.getaddrinfo` in a hook, where names are known: ``sometimes`` says what happens, and until when.
RESOLVER = """
import socket, time
def getaddrinfo(*_, real=socket.getaddrinfo, until=time.monotonic() + {seconds}, **options):
    if time.monotonic() < until:
        raise socket.gaierror(socket.{error}, "no")
    return real("127.0.0.1", *_[1:], **options)
socket.getaddrinfo = getaddrinfo
"""


def failing(error: str, seconds: float = 1e9) -> str:
    return RESOLVER.format(error=error, seconds=seconds)


def hook(
    port: int,
    *,
    seconds: float = 60,
    pid: int = 0,
    host: str = "127.0.0.1",
    before: str = "",
    env: Mapping[str, str] = {},
    within: tuple[str, ...] = (),
    hasty: bool = False,
    key: Any = "/nonexistent",
    control: int = 0,
    **spec: Any,
) -> subprocess.Popen[str]:
    """The hook as a Pod runs it; the worker is a process that heeds SIGTERM, or ``pid``.

    Args:
        port: of the scheduler.
        seconds: for which it may wait.
        pid: of the container's first process.
        host: of the scheduler.
        before: what is executed before the program.
        env: variables of the container.
        within: a command that runs the hook.
        hasty: whether it has a tenth of its patience.
        key: file with the key of the cluster.
        control: port for signed requests; the same as ``port`` by default.
        spec: of the Pod.
    """
    spec = with_drain({"containers": [{"name": "worker"}], **spec}, host=host, worker_name="w", drain_seconds=60)
    shell, option, start, program, *arguments = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    for patience, haste in {"lost > 20": "lost > 2", "nameless > 5": "nameless > 1", "c() + 30": "c() + 1"}.items():
        assert patience in program, "a scheduler that restarts, a name in a cache, a worker that starts"
        program = program.replace(patience, haste) if hasty else program
    arguments[1], arguments[2], arguments[4], arguments[6] = str(port), str(control or port), str(seconds), str(key)
    if arguments[5] == "1":
        arguments[5] = str(pid or os.getpid())
    return subprocess.Popen(
        [*within, shell, option, start, before + program, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | env,
    )
