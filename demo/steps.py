"""A cluster, the operator from ``dist/``, an example DaskJob and its result, and how to go on."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

from tests.cluster import External, Kind, Node, Unavailable, images, kind
from tests.cluster.machine import progress
from tests.cluster.releases import Refused

JOB = "hello"
EXAMPLES = images.ROOT / "dist" / "examples"


def play(*, on: str | None, context: str | None, stay: bool) -> int:
    """Play all of it; returns the exit status.

    Args:
        on: ``kind`` or ``node``; default: the first of them that works.
        context: of a kubeconfig, whose cluster is used instead.
        stay: whether a cluster that was made for it waits for Ctrl-C.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        try:
            cluster = _cluster(stack, on, context)
            _install(cluster)
            _run_job(cluster)
        except (Unavailable, Refused) as reason:
            print(f"\nNot here: {reason}", file=sys.stderr)
            return 2
        except subprocess.CalledProcessError as error:
            print(f"\n{' '.join(error.cmd[-6:])} failed:\n{error.stderr}", file=sys.stderr)
            return 1
        _how_to_go_on(cluster)
        if stay and not context:
            print("The cluster stays until you press Ctrl-C.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            print("\nstopping the cluster")
    return 0


def _cluster(stack: ExitStack, on: str | None, context: str | None) -> Node | External:
    if context:
        return stack.enter_context(External(context=context))
    if on == "kind" or (on is None and kind.works()):
        cluster = stack.enter_context(Kind())
        cluster.build_image(images.OPERATOR, images.ROOT)
        return cluster
    node = Node()
    archives = [images.dask_image(official=True), images.operator_image(images.OPERATOR)]
    with progress("starting a Kubernetes node"):
        stack.enter_context(node)
        for archive in archives:
            node.load_image(archive)
    return node


def _install(cluster: Node | External) -> None:
    with progress("installing the operator: kubectl apply --server-side -f dist/install.yaml"):
        cluster.kubectl("apply", "--server-side", "-f", str(images.ROOT / "dist" / "install.yaml"))
        try:
            rollout = ("rollout", "status", "deployment/dask-operator", "-n", "dask-operator", "--timeout=180s")
            cluster.kubectl(*rollout)
        except subprocess.CalledProcessError:
            pods = cluster.kubectl("get", "pods", "-n", "dask-operator")
            raise Unavailable(
                f"the operator does not start:\n{pods}\nIf its image {images.OPERATOR} cannot be pulled, "
                "build and push it (Dockerfile), and name it in synth/config.yaml"
            ) from None


def _run_job(cluster: Node | External) -> None:
    with progress("running a DaskJob: kubectl apply -f dist/examples/dask-job.yaml"):
        cluster.kubectl("delete", "daskjob", JOB, "-n", "default", "--ignore-not-found")
        cluster.kubectl("apply", "-n", "default", "-f", str(EXAMPLES / "dask-job.yaml"))
        last = ""
        for _ in range(600):
            job = ("get", "daskjob", JOB, "-n", "default", "-o")
            state = cluster.kubectl(*job, "jsonpath={.status.jobStatus}")
            ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].message}'
            message = cluster.kubectl(*job, ready)
            if (line := f"  {state or 'waiting'}: {message}") != last:
                print(last := line, file=sys.stderr, flush=True)
            if state in ("Successful", "Failed"):
                break
            time.sleep(0.5)
    print(f"\n$ kubectl logs job/{JOB}-runner")
    print(cluster.kubectl("logs", "-n", "default", f"job/{JOB}-runner"))
    if state != "Successful":
        raise Unavailable(f"the job has not succeeded: {state or 'no status'}, {message}")


def _how_to_go_on(cluster: Node | External) -> None:
    if isinstance(cluster, External):
        kubectl = f'"kubectl --context {cluster.context}"' if cluster.context else "kubectl"
    else:
        kubectl = str(cluster.programs["kubectl"])
    print(
        f"""How to go on, in another terminal:

  export KUBECONFIG={cluster.kubeconfig}
  alias kubectl={kubectl}
  kubectl apply -f {EXAMPLES.relative_to(images.ROOT)}/dask-cluster.yaml
  kubectl get dask                       # clusters, worker groups, jobs, autoscalers
  kubectl get daskworkergroups           # then: kubectl scale daskworkergroup NAME --replicas=3

From Python (.venv/bin/python has all that is needed):

  from dask_kubernetes.operator import KubeCluster
  from distributed import Client
  with KubeCluster(name="demo", image="{images.DASK}:{images.DASK_VERSION}", n_workers=2) as cluster:
      print(Client(cluster).submit(sum, range(10)).result())

Clean up: kubectl delete dask --all; kubectl delete -f dist/install.yaml
"""
    )
