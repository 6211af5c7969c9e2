"""Real Dask that is in trouble: a scheduler in a process of its own, for ``python -m tests.support.troubled_dask``.

deaf     something blocks its event loop for three seconds, again and again
idle     a task asks for what no worker has
killed   a task kills its worker
paused   the memory of a worker is full
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time

import dask
from distributed import Client, Scheduler, Worker

from tests.cluster.processes import die_with_parent
from tests.support.dask_scheduler import MODULE


async def deaf(_: Scheduler, __: Client) -> None:
    while True:
        time.sleep(3)  # noqa: ASYNC251 - that is the trouble
        await asyncio.sleep(0.1)


async def idle(_: Scheduler, client: Client) -> None:
    wanted = client.submit(os.getpid, resources={"GPU": 1})
    await wanted


async def killed(scheduler: Scheduler, client: Client) -> None:
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler.address, "--no-nanny", "--no-dashboard"]
    with subprocess.Popen(command, preexec_fn=die_with_parent()):  # noqa: ASYNC220 - it is no matter here
        await client.wait_for_workers(1)
        await client.submit(os._exit, 1).exception()
        await asyncio.Event().wait()


async def paused(scheduler: Scheduler, _: Client) -> None:
    async with Worker(scheduler.address, memory_limit="1 MiB", dashboard_address=None):
        await asyncio.Event().wait()


TROUBLES = {trouble.__name__: trouble for trouble in (deaf, idle, killed, paused)}


async def main(trouble: str, port: int) -> None:
    """Serve metrics at a port, and be in trouble until killed."""
    async with (
        Scheduler(port=0, dashboard_address=f"127.0.0.1:{port}", preload=[str(MODULE)]) as scheduler,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        await TROUBLES[trouble](scheduler, client)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trouble", choices=TROUBLES)
    parser.add_argument("port", type=int)
    chosen = parser.parse_args()
    # What its task has done once is no accident.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.worker.memory.terminate": False}):
        asyncio.run(main(chosen.trouble, chosen.port))
