"""Autoscaled clusters whose schedulers are played by a process of the bench: they answer, or they do not."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

from tests.cluster.processes import Processes

from ..fake_scheduler import PORT
from ..manifests import SCHEDULERS, autoscaler, dask_cluster
from ..measure import Bench, Space
from ..operators import OURS, ROOT, Operator, cpu_seconds
from ..result import Result

#: What is said of schedulers that do not answer, by the mode of their process; without a process nobody listens.
SILENT = {"silent": "accept and never answer", "drip": "answer a byte a second", "": "refuse connections"}
#: Until all have been asked, and asked again.
SETTLE_SECONDS = 20


def asked(bench: Bench) -> None:
    """--asked autoscaled clusters whose schedulers answer: CPU, requests, and a new cluster of 2 beside them."""
    number = bench.options.asked
    quiet = f"CPU, {number:,} autoscaled, none has an address"
    with bench.operator(OURS) as ours:
        bench.alone(ours)
        with autoscaled(bench, number) as space:
            bench.settle(SETTLE_SECONDS, "all is created")
            bench.share(ours, quiet)
            with Fake(bench.options.output, "answer") as fake:
                give_addresses(space)
                bench.settle(SETTLE_SECONDS, "the schedulers are asked")
                rates = share(bench, ours, fake, f"CPU, {number:,} autoscaled whose schedulers answer", quiet)
                bench.add(Result(f"requests to {number:,} schedulers that answer", OURS, rates["requests"], "/s"))
                bench.two_workers(ours, f"2 workers beside {number:,} whose schedulers answer")


def silent(bench: Bench) -> None:
    """--silent autoscaled clusters whose schedulers never answer, in three ways: a new cluster of 2 beside them."""
    number = bench.options.silent
    with bench.operator(OURS) as ours:
        bench.alone(ours)
        with autoscaled(bench, number) as space:
            give_addresses(space)
            for mode, words in SILENT.items():
                with Fake(bench.options.output, mode) if mode else contextlib.nullcontext() as fake:
                    bench.restart(ours, warm=False)  # what it has learnt of silence is forgotten
                    bench.settle(SETTLE_SECONDS, f"schedulers that {words}")
                    bench.two_workers(ours, f"2 workers beside {number:,} whose schedulers {words}")
                    share(bench, ours, fake, f"CPU, {number:,} autoscaled whose schedulers {words}")


def share(bench: Bench, operator: Operator, fake: Fake | None, what: str, than: str = "") -> dict[str, float]:
    """As `Bench.share`; also what reaches the schedulers a second."""
    if fake is None:
        bench.share(operator, what, than)
        return {}
    with bench.sampled(operator, what, than) as detail:
        cpu, before, began = fake.cpu_seconds(), fake.asked(), time.monotonic()
        bench.settle(bench.options.seconds, "for CPU")
        seconds, after = time.monotonic() - began, fake.asked()
        rates = {name: (after[name] - before[name]) / seconds for name in after}
        detail.append(f"{', '.join(f'{rate:.1f} {name}' for name, rate in rates.items())} a second")
        detail.append(f"CPU of the schedulers: {(fake.cpu_seconds() - cpu) / seconds:.3f} cores")
    return rates


@contextlib.contextmanager
def autoscaled(bench: Bench, number: int) -> Iterator[Space]:
    """So many autoscaled clusters of two workers, which run."""
    with bench.namespace() as space, space.follow(SCHEDULERS) as schedulers:
        for n in range(number):
            space.create(dask_cluster(f"c{n}", 2), autoscaler(f"c{n}"))
        space.running(2 * number)
        bench.wait(schedulers, lambda: schedulers.running == number)
        yield space
        bench.say("deleting them")


def give_addresses(space: Space) -> None:
    """An address for each scheduler's Pod, since fake nodes give none: 127.1.0.1 and so on, all of this machine."""
    pods = f"/api/v1/namespaces/{space.name}/pods"
    found = space.bench.api.request("GET", f"{pods}?{urlencode({'labelSelector': SCHEDULERS})}")["items"]
    for n, pod in enumerate(found, 1):
        ip = f"127.{1 + n // 65536}.{n // 256 % 256}.{n % 256}"
        status = {"podIP": ip, "podIPs": [{"ip": ip}]}
        space.bench.api.request("PATCH", f"{pods}/{pod['metadata']['name']}/status", {"status": status})


class Fake:
    """The process of `bench.fake_scheduler`; a context manager."""

    def __init__(self, folder: Path, mode: str) -> None:
        self._processes = Processes(folder)
        self._mode = mode

    def __enter__(self) -> Fake:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                raise RuntimeError(f"port {PORT} is taken, and the operator asks schedulers there")
        program = ROOT / "bench" / "fake_scheduler.py"
        self._process = self._processes.start(f"fake-{self._mode}", sys.executable, program, self._mode)
        deadline = time.monotonic() + 30
        while not self._answers():
            self._processes.check()
            if time.monotonic() > deadline:
                self._processes.stop(seconds=0)
                raise TimeoutError(f"nobody answers at port {PORT}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.stop(seconds=0)

    def _answers(self) -> bool:
        try:
            return bool(self.asked())
        except OSError:
            return False

    def asked(self) -> dict[str, int]:
        """Numbers of connections, requests and questions so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/asked", timeout=10) as response:
            numbers: dict[str, int] = json.load(response)
        return numbers

    def cpu_seconds(self) -> float:
        """CPU time that it has used."""
        return cpu_seconds(self._process.pid)
