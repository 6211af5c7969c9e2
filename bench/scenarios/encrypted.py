"""Clusters that speak TLS beside plain ones: real Dask, on a real node, in one run and in turns."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.cluster import Node, Unavailable, images
from tests.e2e.conftest import Operator
from tests.e2e.support import Kubectl, Manifests, ready_pods

from ..measure import Bench
from ..operators import OURS
from ..result import Result

NAMESPACE = "bench"
WORKERS = 2
#: How both are called in results, and what their specs say.
SECURITY: Mapping[str, dict[str, Any]] = {"plain": {}, "TLS": {"security": {"tls": {"mode": "Generated"}}}}
#: In a worker's Pod, which has what a client needs: tasks that do nothing, then data that does not compress. The first
#: time is not counted: modules are imported then, and connections opened.
PROGRAM = """
import json, os, statistics, sys, time
from distributed import Client
ROUNDS, TASKS, CHUNKS, MEBIBYTE = 6, 2000, 50, 2**20
def each_second(number, of, *arguments):
    began = time.perf_counter()
    client.gather(client.map(of, *arguments, pure=False))
    return number / (time.perf_counter() - began)
def median(*round):
    return statistics.median([each_second(*round) for _ in range(ROUNDS)][1:])
with Client(sys.argv[1], timeout=60) as client:
    client.wait_for_workers(int(sys.argv[2]), timeout=60)
    tasks = median(TASKS, abs, range(TASKS))
    mebibytes = median(CHUNKS, os.urandom, [MEBIBYTE] * CHUNKS)
    print(json.dumps({"tasks/s": tasks, "MiB/s": mebibytes}))
"""
WHAT = {"tasks/s": "tasks that do nothing", "MiB/s": "results of 1 MiB to a client"}


def encrypted(bench: Bench) -> None:
    """Clusters that speak TLS, on a real node (which needs root): time to ready, tasks and data a second."""
    try:
        with _node(bench) as node:
            _compare(bench, node)
    except Unavailable as reason:
        bench.say(f"left out: {reason}")


@contextmanager
def _node(bench: Bench) -> Iterator[Node]:
    """A node with the operator of ``dist/``, and a namespace."""
    archives = [images.dask_image(), images.operator_image(images.OPERATOR)]
    with Node() as node:
        for archive in archives:
            node.load_image(archive)
        Operator(node).install()
        node.kubectl("create", "namespace", NAMESPACE)
        bench.say("the node is there")
        yield node


def _compare(bench: Bench, node: Node) -> None:
    kubectl, manifests = Kubectl(node.kubectl, NAMESPACE), Manifests(node.kubeconfig, NAMESPACE)
    with bench.unkept():  # what is loaded or opened once is there then
        _measure(bench, kubectl, manifests, "plain", "first")
    for n in range(bench.options.repeat):
        # Each goes first as often as the other, in case the node gets slower or faster.
        for how in (list(SECURITY), list(reversed(SECURITY)))[n % 2]:
            _measure(bench, kubectl, manifests, how, f"{how.lower()}-{n}")


def _measure(bench: Bench, kubectl: Kubectl, manifests: Manifests, how: str, name: str) -> None:
    """One cluster, from its creation to its end."""
    manifest = manifests.cluster_manifest(name, workers=WORKERS, **SECURITY[how])
    began = time.monotonic()
    kubectl.apply(manifest)
    kubectl("wait", "--for=condition=Ready", f"daskcluster/{name}", f"--timeout={bench.options.patience:.0f}s")
    _add(bench, f"a cluster of {WORKERS} is ready", how, time.monotonic() - began, "s")

    address = kubectl.status("daskcluster", name)["schedulerAddress"]
    worker = ready_pods(kubectl, name, "worker")[0]["metadata"]["name"]
    printed = kubectl("exec", worker, "--", "python3", "-c", PROGRAM, address, str(WORKERS))
    for unit, value in json.loads(printed.splitlines()[-1]).items():
        _add(bench, WHAT[unit], how, value, unit)
    kubectl("delete", "daskcluster", name)
    # Else their ends would take time from the next one.
    kubectl("wait", "--for=delete", "pod", "--all", f"--timeout={bench.options.patience:.0f}s")


def _add(bench: Bench, what: str, how: str, value: float, unit: str) -> None:
    than = "" if how == "plain" else f"{what}, plain"
    bench.add(Result(f"{what}, {how}", OURS, value, unit, than))
