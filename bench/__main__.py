"""Side by side, in one run, on one API server with fake nodes: native Deployment, dask-kubernetes, dask-gitops.

    python -m bench                 # everything: 200 and 1,000 workers, 50 clusters x 2, fairness, memory, idleness
    python -m bench --workers 200   # a few minutes

Absolute numbers say something about this machine only; the ratios to the native Deployment are what counts, and they
are of one run. kwok plays the kubelet: no container runs, so this measures operators and the API server, not Dask.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster import ControlPlane
from tests.cluster.processes import Processes

HERE = Path(__file__).parent
ROOT = HERE.parent


class Result(NamedTuple):
    """One measurement."""

    what: str  #: which scenario
    who: str  #: which operator
    seconds: float
    cpu_seconds: float  #: of the operator
    memory_mib: float  #: of the operator, at its peak so far
    writes: int  #: of the operator on the API server


class Operator:
    """An operator as a process on this machine, with its own user, so that its requests can be told apart."""

    def __init__(self, name: str, command: list[str], plane: ControlPlane, log: Path) -> None:
        self.name = name
        self._command = command
        self._plane = plane
        self._log = log

    def __enter__(self) -> Operator:
        environment = os.environ | {"KUBECONFIG": str(self._plane.kubeconfig)}
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._processes = Processes(self._log.parent)
        self._process = self._processes.start(self._log.stem, *self._command, env=environment)
        time.sleep(5)
        if self._process.poll() is not None:
            sys.exit(f"{self.name} did not start:\n{self._log.read_text()[-2000:]}")
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.stop(seconds=20)

    @contextlib.contextmanager
    def profiled(self, flame_graph: Path) -> Iterator[None]:
        """Sample what the operator does meanwhile, for a flame graph."""
        command = [
            str(Path(sys.executable).with_name("py-spy")),
            "record",
            "--rate",
            "200",
            "--output",
            str(flame_graph),
            "--pid",
            str(self._process.pid),
        ]
        sampler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            sampler.send_signal(signal.SIGINT)  # then it writes what it has
            sampler.wait(60)

    def memory(self) -> float:
        """Memory in MiB now, without what is shared with other processes."""
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    def usage(self) -> tuple[float, float]:
        """CPU seconds used, and peak memory in MiB."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        return cpu, peak / 1024


class Nobody:
    """The native Deployment needs no operator but kube-controller-manager."""

    name = "native"

    def __enter__(self) -> Nobody:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def usage(self) -> tuple[float, float]:
        return 0.0, 0.0


def count(plane: ControlPlane, namespace: str, selector: str, *, running: bool) -> int:
    """Pods that are Running (or exist), by a selector."""
    arguments = ["get", "pods", "-n", namespace, "-l", selector, "--no-headers", "-o", "custom-columns=P:.status.phase"]
    lines = plane.kubectl(*arguments).split()
    return sum(1 for line in lines if line == "Running") if running else len(lines)


def wait(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until ``holds``; TimeoutError after ``seconds``."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(0.2)


# --- what is measured -------------------------------------------------------------------------------------------------

POD = {
    "containers": [
        {
            "name": "worker",
            "image": "ghcr.io/dask/dask:2026.8.0",
            "args": ["dask-worker", "--name", "$(DASK_WORKER_NAME)"],
            "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}},
        }
    ]
}


def dask_cluster(name: str, workers: int) -> dict[str, Any]:
    """A cluster that both operators accept."""
    selector = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    ports = [
        {"name": "tcp-comm", "protocol": "TCP", "port": 8786, "targetPort": "tcp-comm"},
        {"name": "http-dashboard", "protocol": "TCP", "port": 8787, "targetPort": "http-dashboard"},
    ]
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name},
        "spec": {
            "scheduler": {"spec": POD, "service": {"type": "ClusterIP", "selector": selector, "ports": ports}},
            # No scheduler answers on a fake node: without a drain timeout of 0 scaling down would wait for one.
            "worker": {"replicas": workers, "spec": POD, "drainTimeoutSeconds": 0},
        },
    }


def deployment(name: str, replicas: int) -> dict[str, Any]:
    """The yardstick."""
    labels = {"dask.org/cluster-name": name, "dask.org/component": "worker"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": POD},
        },
    }


class Bench:
    """Runs scenarios and keeps the results."""

    def __init__(self, plane: ControlPlane, patience: float) -> None:
        self.plane = plane
        self.patience = patience  #: seconds after which a scenario counts as never done
        self.results: list[Result] = []
        self.notes: list[str] = []  #: findings that are no duration
        self._namespaces = 0

    @contextlib.contextmanager
    def measured(self, what: str, operator: Any) -> Iterator[None]:
        """Time what is inside, and what the operator needed for it."""
        cpu, _ = operator.usage()
        before = self.plane.writes()
        began = time.monotonic()
        try:
            yield
            seconds = time.monotonic() - began
        except TimeoutError:
            seconds = float("inf")
        after, memory = operator.usage()
        result = Result(what, operator.name, seconds, after - cpu, memory, self.plane.writes() - before)
        self.results.append(result)
        print(
            f"  {what:<28} {operator.name:<16} {seconds:7.1f} s   cpu {result.cpu_seconds:6.1f} s   "
            f"memory {memory:6.0f} MiB   writes {result.writes}",
            flush=True,
        )

    @contextlib.contextmanager
    def namespace(self) -> Iterator[str]:
        self._namespaces += 1
        name = f"bench-{self._namespaces}"
        self.plane.kubectl("create", "namespace", name)
        yield name
        self.plane.kubectl("delete", "namespace", name, "--wait=true", "--timeout=600s")

    def apply(self, namespace: str, *manifests: dict[str, Any]) -> None:
        body = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        # The existing operator's CRDs do not know `drainTimeoutSeconds`.
        self.plane.kubectl("apply", "-n", namespace, "--validate=ignore", "-f", "-", input=json.dumps(body))

    def start_workers(self, operator: Any, workers: int) -> None:
        """Seconds until N workers of one cluster are Running."""
        selector = "dask.org/component=worker"
        with self.namespace() as namespace:
            with self.measured(f"start {workers} workers", operator):
                make = deployment if operator.name == "native" else dask_cluster
                self.apply(namespace, make("big", workers))
                wait(lambda: count(self.plane, namespace, selector, running=True) >= workers, self.patience)
            if operator.name == "dask-kubernetes":
                return  # it asks a scheduler, which no fake node has, and removes no worker for minutes
            with self.measured(f"stop {workers} workers", operator):
                if operator.name == "native":
                    self.plane.kubectl("scale", "-n", namespace, "deployment/big", "--replicas=0")
                else:
                    self.plane.kubectl("scale", "-n", namespace, "daskworkergroup/big-default", "--replicas=0")
                wait(lambda: count(self.plane, namespace, selector, running=False) == 0, self.patience)

    def start_clusters(self, operator: Any, clusters: int, workers: int) -> None:
        """Seconds until all workers of many clusters are Running."""
        with self.namespace() as namespace, self.measured(f"start {clusters} clusters x {workers}", operator):
            make = deployment if operator.name == "native" else dask_cluster
            self.apply(namespace, *(make(f"c{n}", workers) for n in range(clusters)))
            total = clusters * workers
            wait(
                lambda: count(self.plane, namespace, "dask.org/component=worker", running=True) >= total, self.patience
            )

    def fairness(self, operator: Any, workers: int) -> None:
        """A cluster of two workers, alone and while another one starts many."""
        selector = "dask.org/cluster-name=small,dask.org/component=worker"

        def small(namespace: str, what: str) -> None:
            with self.measured(what, operator):
                self.apply(namespace, dask_cluster("small", 2))
                wait(lambda: count(self.plane, namespace, selector, running=True) >= 2, self.patience)

        with self.namespace() as namespace:
            small(namespace, "2 workers alone")
        with self.namespace() as namespace, self.namespace() as crowded:
            self.apply(crowded, dask_cluster("big", workers))
            wait(lambda: count(self.plane, crowded, "dask.org/cluster-name=big", running=False) > 2, self.patience)
            small(namespace, f"2 workers beside {workers:,}")
            total = count(self.plane, crowded, "dask.org/component=worker", running=True)
            self.notes.append(f"{total:,} of the {workers:,} workers ran when the small cluster was there.")

    def memory(self, operator: Operator, sizes: Sequence[int]) -> None:
        """Memory of the operator for each Pod, by a line through some sizes, of which the first one warms it up."""
        from statistics import linear_regression

        measured = []
        selector = "dask.org/component=worker"
        with self.namespace() as namespace:
            for workers in sizes:
                self.apply(namespace, dask_cluster("big", workers))
                wait(lambda n=workers: count(self.plane, namespace, selector, running=True) >= n, self.patience)
                time.sleep(10)
                measured.append((workers, operator.memory()))
        points = ", ".join(f"{workers:,}: {memory:.0f}" for workers, memory in measured)
        slope = linear_regression(*zip(*measured, strict=True)).slope
        self.notes.append(f"Memory in MiB by the number of Pods: {points}; {slope * 1.048576:.3f} MB for each Pod.")

    def idleness(self, clusters: int) -> None:
        """Writes in a minute in which nothing happens; kwok's nodes and leader election apart."""
        with self.namespace() as namespace:
            self.apply(namespace, *(dask_cluster(f"c{n}", 2) for n in range(clusters)))
            selector = "dask.org/component=worker"
            wait(lambda: count(self.plane, namespace, selector, running=True) >= 2 * clusters, self.patience)
            time.sleep(15)
            apart = ("leases", "events", "nodes")
            before = self.plane.writes(apart_from=apart)
            time.sleep(60)
            writes = self.plane.writes(apart_from=apart) - before
        self.notes.append(f"{writes} writes on the API server in an idle minute with {clusters} clusters of 2 workers.")

    # --- reporting ----------------------------------------------------------------------------------------------------

    def table(self) -> str:
        """Results as Markdown, with ratios to the native Deployment of the same run."""
        native = {r.what: r.seconds for r in self.results if r.who == "native"}
        lines = [
            "| scenario | operator | seconds | x native | CPU s | memory MiB | API writes |",
            "|---|---|---:|---:|---:|---:|---:|",
        ]
        order = list(dict.fromkeys(r.what for r in self.results))
        for r in sorted(self.results, key=lambda r: order.index(r.what)):
            own = (f"{r.cpu_seconds:.1f}", f"{r.memory_mib:.0f}") if r.who != "native" else ("", "")
            ratio = f"{r.seconds / native[r.what]:.2f}" if r.what in native else ""
            lines.append(f"| {r.what} | {r.who} | {r.seconds:.1f} | {ratio} | {own[0]} | {own[1]} | {r.writes} |")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)])

    def plot(self, path: Path) -> None:
        """Bars of the ratios."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        native = {r.what: r.seconds for r in self.results if r.who == "native"}
        scenarios, names = list(native), ["native", "dask-gitops", "dask-kubernetes"]
        figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
        for offset, name in enumerate(names):
            ratios = [
                next((r.seconds / native[what] for r in self.results if (r.what, r.who) == (what, name)), float("nan"))
                for what in scenarios
            ]
            bars = axes.bar([n + 0.27 * (offset - 1) for n in range(len(scenarios))], ratios, 0.25, label=name)
            axes.bar_label(bars, fmt="%.1f", fontsize=7)
        axes.set_xticks(range(len(scenarios)), scenarios, fontsize=8)
        axes.set_ylabel("time / time of a native Deployment")
        axes.set_yscale("log")
        axes.legend()
        figure.savefig(path, dpi=150)


def operators(plane: ControlPlane, logs: Path) -> dict[str, Any]:
    """Who is compared, by name; each is started when its turn comes."""
    ours = [sys.executable, "-m", "dask_controller", "run", "--all-namespaces", "--port", "0"]
    theirs = [sys.executable, "-m", "kopf", "run", "-m", "dask_kubernetes.operator.controller", "--all-namespaces"]
    return {
        "native": Nobody(),
        "dask-gitops": Operator("dask-gitops", ours, plane, logs / "dask-gitops.log"),
        "dask-kubernetes": Operator("dask-kubernetes", theirs, plane, logs / "dask-kubernetes.log"),
    }


def install_crds(plane: ControlPlane, who: str) -> None:
    """The CRDs of one operator instead of the other's; their schemas differ."""
    plane.kubectl("delete", "crd", "-l", "!none", "--ignore-not-found", "--wait=true")
    if who == "dask-kubernetes":
        import dask_kubernetes.operator as upstream

        folder = Path(upstream.__file__).parent / "deployment/helm/dask-kubernetes-operator/crds"
        plane.kubectl("apply", "--server-side", "-f", str(folder))
    else:
        plane.kubectl("apply", "--server-side", "-k", str(ROOT / "dist/crds"))
    plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")


def main() -> None:
    """Run the scenarios that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[200, 1000], help="sizes of the one cluster")
    parser.add_argument("--clusters", type=int, default=50, help="how many clusters of 2 workers; 0 to leave out")
    parser.add_argument(
        "--who", nargs="+", default=["native", "dask-gitops", "dask-kubernetes"], help="who is compared"
    )
    parser.add_argument("--no-details", action="store_true", help="leave out fairness, memory and idleness")
    parser.add_argument(
        "--profile", action="store_true", help="profile the operator of this project while it starts workers (py-spy)"
    )
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder for table, plot and logs")
    parser.add_argument("--patience", type=float, default=300, help="seconds after which a scenario is given up")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with ControlPlane(kwok_nodes=10) as plane:
        bench = Bench(plane, options.patience)
        for name, operator in operators(plane, options.output).items():
            if name not in options.who:
                continue
            if name != "native":
                install_crds(plane, name)
            with operator:
                # Nobody waits hours for the existing operator; its rate is known after the first size.
                for workers in options.workers if name != "dask-kubernetes" else [min(options.workers)]:
                    bench.start_workers(operator, workers)
                if options.clusters:
                    bench.start_clusters(operator, options.clusters, 2)
                if name == "dask-gitops" and options.profile:
                    with operator.profiled(options.output.resolve() / "profile.svg"):
                        bench.start_workers(operator, max(options.workers))
                if name == "dask-gitops" and not options.no_details:
                    bench.fairness(operator, max(options.workers))
                    bench.memory(operator, [500, 1000, 2000])
                    bench.idleness(10)
    print("\n" + bench.table())
    (options.output / "table.md").write_text(bench.table() + "\n")
    bench.plot(options.output / "ratios.png")


if __name__ == "__main__":
    main()
