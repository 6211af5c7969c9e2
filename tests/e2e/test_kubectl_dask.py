"""`kubectl dask` on a real node: what only real Pods have, logs and connections, and a real kubelet's words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from tests.e2e.support import eventually

pytestmark = pytest.mark.node

COMPUTES = "from distributed import Client; print('sum', Client(timeout=60).submit(sum, [1, 2]).result())"
#: Ends when the worker has begun.
KEEPS_BUSY = """
import time
from distributed import Client, fire_and_forget
with Client(timeout=60) as client:
    fire_and_forget(client.submit(time.sleep, 600))
    while not any(client.processing().values()):
        time.sleep(0.1)
"""


@pytest.fixture
def dask(node, kubectl) -> Any:
    environment = os.environ | {"KUBECONFIG": str(node.kubeconfig)}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "dask_gitops.kubectl", "-n", kubectl.namespace, *arguments]
        return subprocess.run(command, env=environment, check=True, text=True, capture_output=True).stdout

    return run


def test_logs_and_connections(kubectl, kube, dask):
    kubectl.apply(kube.cluster_manifest("near", workers=1))
    kubectl.wait_ready("daskcluster", "near")
    assert "Scheduler at:" in dask("logs", "near")
    whole = dask("logs", "near", "-c", "all", "--tail", "5")
    assert {line.partition("]")[0].rpartition("-")[0] for line in whole.splitlines() if line.startswith("[near-")} > {
        "[near-default-worker"
    }
    assert dask("connect", "near", "--", sys.executable, "-c", COMPUTES).strip() == "sum 3"
    # A worker that is busy does not go.
    dask("connect", "near", "--", sys.executable, "-c", KEEPS_BUSY)
    dask("scale", "near", "0")
    eventually(lambda: json.loads(dask("why", "near", "-o", "json"))["reason"] == "Draining")
    assert "near-default-worker-0 for" in dask("why", "near")


def test_why_in_the_words_of_a_kubelet(kubectl, kube, dask):
    """Side by side, as they all wait."""
    faults: dict[str, dict[str, Any]] = {
        "ImagePullBackOff": {"image": "registry.invalid/dask:1"},
        "SecretNotFound": {"envFrom": [{"secretRef": {"name": "not-there"}}]},
        "RunContainerError": {"command": ["dask-schedular"]},
        "CrashLoopBackOff": {"command": ["python3", "-c", "raise SystemExit(3)"]},
        "OOMKilled": {
            "command": ["python3", "-c", "x = bytearray(400 * 2**20)"],
            "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "64Mi"}},
        },
    }
    names = {reason: f"c{number}" for number, reason in enumerate(faults)}
    for reason, fault in faults.items():
        manifest = kube.cluster_manifest(names[reason], workers=0)
        manifest["spec"]["scheduler"]["spec"]["containers"][0].update(fault)
        kubectl.apply(manifest)

    def found() -> dict[str, str]:
        return {reason: json.loads(dask("why", name, "-o", "json"))["reason"] for reason, name in names.items()}

    eventually(lambda: {*found().items()} == {(reason, reason) for reason in faults}, seconds=150)
