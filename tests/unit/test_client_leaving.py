"""What becomes of templates' clusters when Python ends before they were closed."""

from __future__ import annotations

import subprocess
import sys

#: Kubernetes, whose name has to be looked up for each request, and a scheduler of this process.
_STAGE = """
import asyncio, os
from distributed import Client, LocalCluster
from dask_gitops import access, connect, connection
from dask_gitops.cluster import Cluster
from dask_gitops.waking import Waking

class Server:
    namespace, server = "lab", "https://elsewhere"

    async def get(self, kind, name):
        return {"metadata": {"name": name, "uid": "1"}, "spec": {"worker": {}}}

    async def user(self):
        return "ada"

    async def create(self, kind, manifest):
        return {"metadata": {"uid": "1"}}

    async def delete(self, kind, name, *, uid):
        await asyncio.get_running_loop().getaddrinfo("localhost", 443)
        print("deleted", name, os.getpid() == first, flush=True)

async def opened(*_, **__):
    return Server()

async def up(self):
    return {"metadata": {"name": self._name, "namespace": "lab", "uid": "1"}, "spec": {}}

async def reached(*_):
    return connection.Connection(scheduler.scheduler_address, None, "direct", ("localhost", 1), "")

first = os.getpid()
access.Access.open, Waking.up, connection.open = opened, up, reached
scheduler = LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="tcp")
"""


def ended(program: str) -> list[str]:
    """Names of the clusters that a program has deleted which has come to its end, and whether it did so itself."""
    run = subprocess.run([sys.executable, "-c", _STAGE + program], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr, run.stderr
    return sorted(line for line in run.stdout.splitlines() if line.endswith((" True", " False")))


def test_what_was_not_closed_is_when_python_ends() -> None:
    """No name can be looked up when ``atexit`` calls, nor was it called for all: nothing went, and nothing was said."""
    program = """
a, b = connect(template="a"), connect(template="b")
c = Cluster(template="c")
d = Client(Cluster(template="d"))
connect(template="closed").close()
kept = connect(template="kept", keep=True), connect("of-git")
if os.fork():
    os.wait()
"""
    found = [line.split() for line in ended(program)]
    assert [(name.split("-")[0], itself) for _, name, itself in found] == [
        ("a", "True"), ("b", "True"), ("c", "True"), ("closed", "True"), ("d", "True"),
    ]  # fmt: skip
