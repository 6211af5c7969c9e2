"""The tools of the scenarios: namespaces, operators, clocks, and where results go."""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import ControlPlane

from dask_crds.names import MASTER_SECRET

from . import report
from .api import Api, Manifest, Pods, Replicas, Watch
from .manifests import WORKERS, cluster, counted, namespace
from .operators import ACTIVATOR, BEFORE, COMMANDS, NATIVE, NOBODY, OURS, QUEUES, THEIRS, Operator, install_crds
from .result import Result

ALONE = "2 workers alone"
#: Seconds after which two workers are given up: nobody waits for a small cluster for so long.
SMALL_PATIENCE = 120.0
#: Seconds without a write after which all has been told, and seconds for which that is waited for.
QUIET_SECONDS, MOST_QUIET_SECONDS = 10.0, 300.0


@dataclass(frozen=True)
class Space:
    """A namespace of its own and its worker Pods."""

    bench: Bench
    name: str
    pods: Pods

    def create(self, *manifests: Manifest) -> None:
        """Create objects, one after the other."""
        for manifest in manifests:
            self.bench.api.create(manifest, self.name)

    def delete(self, manifest: Manifest) -> None:
        """Delete an object, and wait until no worker is left here."""
        self.bench.api.delete(manifest, self.name)
        self.gone()

    def running(self, workers: int, patience: float | None = None) -> None:
        """Wait until exactly so many workers run."""
        self.bench.wait(self.pods, lambda: self.pods.running == workers, patience)

    def gone(self) -> None:
        """Wait until there is no worker any more."""
        self.bench.wait(self.pods, lambda: self.pods.there == 0)

    def scale(self, operator: Operator, name: str, workers: int) -> None:
        """Ask for another number of workers, as ``kubectl scale`` does."""
        path, counting = counted(operator, self.name, name)
        self.bench.api.request("PATCH", f"{path}/{counting}/scale", {"spec": {"replicas": workers}})

    def replicas(self, operator: Operator, name: str) -> Replicas:
        """To follow what status says of the number of workers."""
        return Replicas(self.bench.api, *counted(operator, self.name, name))

    def follow(self, labels: str) -> Pods:
        """To count other Pods."""
        return Pods(self.bench.api, self.name, labels)


class Bench:
    """Runs what scenarios ask for and keeps the results.

    Args:
        plane: where.
        options: of the command line.
    """

    def __init__(self, plane: ControlPlane, options: argparse.Namespace) -> None:
        self.plane = plane
        self.options = options
        self.api = Api(plane)
        self.results: list[Result] = []
        self._output: Path = options.output
        present = NATIVE, NOBODY, OURS, THEIRS, ACTIVATOR, QUEUES
        self._operators = {name: Operator(name, plane, self._output) for name in present}
        if options.before:
            self._operators[BEFORE] = Operator(BEFORE, plane, self._output, options.before)
        self._present: Operator | None = None  # whose process runs
        self._crds = ""  # whose are installed
        self._namespaces = 0
        self._keeps = True
        self._began = time.monotonic()
        # Ours finds no key in it, and so asks unsigned: that is what the fake schedulers answer.
        plane.kubectl("create", "secret", "generic", MASTER_SECRET, "--namespace=default")

    # --- who, and where -----------------------------------------------------------------------------------------------

    @property
    def native(self) -> Operator:
        """Kubernetes itself, which always runs."""
        return self._operators[NATIVE]

    @property
    def nobody(self) -> Operator:
        """No operator; see that none runs. The CRDs are ours."""
        self._install_crds(OURS)
        return self._operators[NOBODY]

    @property
    def activator(self) -> Operator:
        """Ours for sleeping clusters, to be run beside the operator."""
        return self._operators[ACTIVATOR]

    @property
    def queues(self) -> Operator:
        """Kueue, in the scenario that brings it up."""
        return self._operators[QUEUES]

    @contextlib.contextmanager
    def operator(self, name: str) -> Iterator[Operator]:
        """A process of an operator that has started a cluster already."""
        self._install_crds(name)
        with self._operators[name] as operator:
            self._present = operator
            try:
                self._warm_up(operator)
                yield operator
            finally:
                self._present = None

    def restart(self, operator: Operator, *, warm: bool = True) -> None:
        """A fresh process: one that has known many objects keeps their memory for others."""
        operator.stop()
        operator.start()
        if warm:
            self._warm_up(operator)

    def _install_crds(self, name: str) -> None:
        if name in COMMANDS and name != self._crds:
            install_crds(self.plane, self._operators[name])
            self._crds = name

    def _warm_up(self, operator: Operator) -> None:
        """What is loaded or opened once is there then, and leadership is won."""
        with self.namespace() as space:
            space.create(cluster(operator, "first", 2))
            space.running(2)
        time.sleep(2)

    @contextlib.contextmanager
    def namespace(self) -> Iterator[Space]:
        """A namespace in which Pods can be created; it is deleted afterwards."""
        with self.namespaces(1) as (space,):
            yield space

    @contextlib.contextmanager
    def namespaces(self, number: int) -> Iterator[list[Space]]:
        """Several, which are deleted together: Kubernetes takes its time for each."""
        first = self._namespaces + 1
        self._namespaces += number
        names = [f"bench-{n}" for n in range(first, first + number)]
        for name in names:
            self.api.create(namespace(name))
        for name in names:
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            self.until(lambda account=account: self.api.get(account) is not None)
        try:
            with contextlib.ExitStack() as stack:
                yield [Space(self, name, stack.enter_context(Pods(self.api, name, WORKERS))) for name in names]
        except KeyboardInterrupt:
            names = []  # they go with the control plane
            raise
        finally:
            if names:
                self.plane.kubectl("delete", "namespace", *names, "--wait=true", "--timeout=1800s")

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wait(self, watch: Watch, holds: Callable[[], bool], patience: float | None = None) -> None:
        """Wait for what a watch brings; TimeoutError when patience is over."""
        patience = self.options.patience if patience is None else patience
        deadline = time.monotonic() + patience
        while not watch.wait(holds, seconds=1.0):
            if self._present is not None:
                self._present.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {patience:.0f} s")

    def until(self, holds: Callable[[], bool]) -> None:
        """Look until ``holds``; TimeoutError when patience is over."""
        deadline = time.monotonic() + self.options.patience
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {self.options.patience:.0f} s")
            time.sleep(0.02)

    def settle(self, seconds: float, why: str) -> None:
        """Wait until it is quiet, as far as can be told."""
        self.say(f"{seconds:.0f} s: {why}")
        time.sleep(seconds)

    def quiet(self, operator: Operator) -> str:
        """Wait until nothing has been written for a while; what is to be said if that does not come to be."""
        self.say(f"until nothing is written for {QUIET_SECONDS:.0f} s")
        began = since = time.monotonic()
        known = _writes(operator)
        while time.monotonic() - since < QUIET_SECONDS:
            if time.monotonic() - began > MOST_QUIET_SECONDS:
                return f"it writes after {MOST_QUIET_SECONDS:.0f} s, too"
            time.sleep(0.5)
            if (writes := _writes(operator)) != known:
                known, since = writes, time.monotonic()
        return ""

    # --- measuring ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def measured(self, what: str, operator: Operator, than: str = "") -> Iterator[list[str]]:
        """Time what is inside, and what the operator needed for it; gives a list for details."""
        cpu, writes, detail = operator.cpu_seconds(), _writes(operator), list[str]()
        began = time.monotonic()
        try:
            yield detail
            seconds = time.monotonic() - began
        except TimeoutError:
            seconds = math.inf
        written = _writes(operator) - writes
        used, peak = operator.cpu_seconds() - cpu, operator.peak_mib()
        self.add(Result(what, operator.name, seconds, "s", than, used, peak, written.total(), "; ".join(detail)))

    def two_workers(
        self, operator: Operator, what: str, than: str = ALONE, *, before: Callable[[], None] = lambda: None
    ) -> None:
        """Seconds until a new cluster of two workers runs in another namespace, as often as everything is repeated.

        What is done ``before`` it is asked for is counted.
        """
        with self.namespace() as space:
            for n in range(self.options.repeat):
                small = cluster(operator, f"small-{n}", 2)
                with self.measured(what, operator, than):
                    before()
                    space.create(small)
                    space.running(2, SMALL_PATIENCE)
                space.delete(small)

    def alone(self, operator: Operator) -> None:
        """The same while the operator has nothing else to do."""
        self.two_workers(operator, ALONE, "")

    def memory(self, operator: Operator, what: str, than: str = "") -> None:
        """Memory now, when it has become quiet."""
        still = self.quiet(operator)
        detail = "; ".join(filter(None, (f"{operator.peak_mib():.0f} MiB resident at most since its start", still)))
        self.add(Result(what, operator.name, operator.memory_mib(), "MiB", than, detail=detail))

    def share(self, operator: Operator, what: str, than: str = "") -> None:
        """CPU in a while in which nothing is asked of the operator, and what it writes then."""
        with self.sampled(operator, what, than):
            self.settle(self.options.seconds, "for CPU")

    @contextlib.contextmanager
    def sampled(self, operator: Operator, what: str, than: str = "") -> Iterator[list[str]]:
        """CPU as a share of one core, and writes, in the time that is spent inside."""
        cpu, writes, began, detail = operator.cpu_seconds(), _writes(operator), time.monotonic(), list[str]()
        yield detail
        used, seconds = operator.cpu_seconds() - cpu, time.monotonic() - began
        written = _writes(operator) - writes
        detail.append(f"in {seconds:.0f} s; writes: {listed(written)}")
        share, peak = used / seconds, operator.peak_mib()
        self.add(Result(what, operator.name, share, "cores", than, used, peak, written.total(), "; ".join(detail)))

    # --- results ------------------------------------------------------------------------------------------------------

    def add(self, result: Result) -> None:
        """Keep a result; the files show it at once, as a run may be cut."""
        if self._keeps:
            self.results.append(result)
            report.write(self.results, self._output)
        columns = [f"{result.what:<60} {result.who:<16} {report.shown(result):>12}"]
        if result.cpu_seconds:
            columns.append(f"cpu {result.cpu_seconds:5.1f} s  peak {result.peak_mib:4.0f} MiB")
        if result.writes:
            columns.append(f"writes {result.writes:,}")
        self.say("  ".join([*columns, result.detail]).rstrip())

    @contextlib.contextmanager
    def unkept(self) -> Iterator[None]:
        """What is measured meanwhile is told, but does not count."""
        self._keeps = False
        try:
            yield
        finally:
            self._keeps = True

    def say(self, text: str) -> None:
        """Tell who is watching."""
        minutes, seconds = divmod(round(time.monotonic() - self._began), 60)
        print(f"{minutes:3}:{seconds:02}  {text}", flush=True)


def _writes(operator: Operator) -> Counter[str]:
    """But for renewals of its lease."""
    writes = operator.writes()
    writes.pop("leases", None)
    return writes


def listed(numbers: dict[str, int]) -> str:
    """Numbers of things, for people."""
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items()) or "none"
