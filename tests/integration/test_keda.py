"""KEDA on a worker group: its real operator and metrics server, which ask a real Dask scheduler.

Left out unless they have been built, ``python -m tests.cluster keda-operator keda-adapter``: that takes as long as
Kubernetes itself, for one way of scaling of many.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster
from tests.cluster import ControlPlane, components
from tests.cluster.processes import free_port
from tests.e2e.support import eventually
from tests.support.aggregation import aggregated
from tests.support.dask_scheduler import MODULE

pytestmark = pytest.mark.control_plane

NAMESPACE = "keda"
GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
READER = "external-metrics-reader"


@pytest.fixture
def keda(control_plane: ControlPlane) -> Iterator[None]:
    operator, adapter = (components.find(name) for name in components.KEDA)
    if operator is None or adapter is None:
        pytest.skip(f"no KEDA: `python -m tests.cluster {' '.join(components.KEDA)}` builds it")
    plane = control_plane
    plane.kubectl("create", "namespace", NAMESPACE)
    plane.kubectl("apply", "--server-side", "-f", str(components.crds(components.KEDA[0])))
    plane.kubectl("create", "clusterrole", READER, "--verb=get,list", f"--resource=*.{GROUP}")
    user = "--serviceaccount=kube-system:horizontal-pod-autoscaler"
    plane.kubectl("create", "clusterrolebinding", READER, f"--clusterrole={READER}", user)
    certificates = plane.folder / "keda"
    certificates.mkdir()
    plane.pki.issue("keda", "keda", hosts=["localhost"])
    shutil.copy(plane.pki.certificate, certificates / "ca.crt")
    for part in ("crt", "key"):
        shutil.copy(plane.pki.folder / f"keda.{part}", certificates / f"tls.{part}")
    metrics, port = free_port(), free_port()
    environment = {"KUBECONFIG": str(plane.kubeconfig), "POD_NAMESPACE": NAMESPACE, "WATCH_NAMESPACE": ""}
    environment["KEDA_CLUSTER_OBJECT_NAMESPACE"] = NAMESPACE
    plane.processes.start(
        "keda-operator",
        operator,
        f"--metrics-bind-address=127.0.0.1:{free_port()}",
        f"--health-probe-bind-address=127.0.0.1:{free_port()}",
        f"--metrics-service-bind-address=127.0.0.1:{metrics}",
        f"--cert-dir={certificates}",
        "--enable-webhook-patching=false",
        "--enable-apiservice-patching=false",
        env=environment,
    )
    plane.processes.start(
        "keda-adapter",
        adapter,
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--port={free_port()}",
        f"--metrics-service-address=localhost:{metrics}",
        f"--cert-dir={certificates}",
        f"--client-ca-file={certificates}/ca.crt",
        f"--tls-cert-file={certificates}/tls.crt",
        f"--tls-private-key-file={certificates}/tls.key",
        *(f"--{use}-kubeconfig={plane.kubeconfig}" for use in ("authentication", "authorization", "lister")),
        env=environment,
    )
    with aggregated(plane, GROUP, VERSION, port=port):
        yield


@pytest.mark.usefixtures("controller", "keda")
def test_it_scales_a_group_from_nothing_by_what_the_scheduler_wants_and_back(kubectl, kube):
    def workers() -> int:
        return kubectl.status("daskworkergroup", "fed-default").get("readyReplicas", 0)

    kubectl.apply(kube.cluster_manifest("fed", workers=1, worker_extra={"drainTimeoutSeconds": 0}))
    kubectl.wait_ready("daskcluster", "fed")
    preload = {"preload": [str(MODULE)]}
    with LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0", scheduler_kwargs=preload) as dask:
        port = dask.scheduler.http_server.port
        kubectl.apply(scaled_object("fed-default", f"http://127.0.0.1:{port}/dask-gitops/v1/adaptive_target"))
        eventually(lambda: workers() == 0, seconds=120)
        with Client(dask) as client:
            tasks = client.map(time.sleep, [3 + n / 1000 for n in range(60)])  # half a second each by its guess
            eventually(lambda: workers() == 6, seconds=180)
            client.cancel(tasks)
            eventually(lambda: workers() == 0, seconds=180)


def scaled_object(group: str, url: str) -> dict:
    """As in docs/scaling.md, but in a hurry."""
    at_once = {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}
    trigger = {"type": "metrics-api", "metadata": {"url": url, "valueLocation": "target", "targetValue": "1"}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": group},
        "spec": {
            "scaleTargetRef": {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup", "name": group},
            "minReplicaCount": 0,
            "maxReplicaCount": 10,
            "pollingInterval": 2,
            "cooldownPeriod": 5,
            "advanced": at_once,
            "triggers": [trigger],
        },
    }
