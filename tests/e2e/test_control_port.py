"""Who asks a scheduler without its key is told what a dashboard tells, and obeyed by nobody (security finding 9)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.e2e.support import Kubectl, eventually, ready_pods

pytestmark = pytest.mark.node

#: From a worker's place in the network, unsigned.
STRANGER = """
import json, urllib.error, urllib.request
said = {}
def ask(name, port, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"http://guarded-scheduler:{port}/dask-gitops/{path}", data)
    asked.add_header("Content-Type", "application/json")
    try:
        said[name] = urllib.request.urlopen(asked, timeout=10).status
    except urllib.error.HTTPError as error:
        said[name] = error.code
ask("state", 8787, "v1/state")
ask("target", 8787, "v1/adaptive_target")
ask("retire", 8787, "v1/retire", {"workers": ["WORKER"]})
ask("resume", 8787, "v1/resume", {"workers": ["WORKER"]})
ask("unsigned", 8788, "v2/ask", {"questions": [{"retire": ["WORKER"]}]})
ask("elsewhere", 8788, "v1/retire", {"workers": ["WORKER"]})
print(json.dumps(said))
"""


def secrets(kubectl: Kubectl) -> list[dict[str, Any]]:
    return kubectl.json("get", "secrets")["items"]


def test_only_the_operator_and_the_workers_themselves_retire_workers(kubectl, kube):
    kubectl.apply(kube.cluster_manifest("guarded", workers=2))
    kubectl.wait_ready("daskcluster", "guarded", seconds=240)
    (found,) = secrets(kubectl)
    assert found["metadata"]["ownerReferences"][0]["kind"] == "DaskCluster"
    workers = ready_pods(kubectl, "guarded", "worker")
    name = workers[0]["metadata"]["annotations"]["dask.org/worker-name"]
    said = kubectl("exec", workers[1]["metadata"]["name"], "--", "python3", "-c", STRANGER.replace("WORKER", name))
    refused = {"retire": 403, "resume": 403, "unsigned": 401, "elsewhere": 404}
    assert json.loads(said) == {"state": 200, "target": 200, **refused}

    # The operator is obeyed, and so is the hook of a worker that is deleted by hand.
    kubectl("scale", "daskworkergroup", "guarded-default", "--replicas=1")
    eventually(lambda: len(ready_pods(kubectl, "guarded", "worker")) == 1, seconds=120)
    (left,) = ready_pods(kubectl, "guarded", "worker")
    kubectl("delete", "pod", left["metadata"]["name"], "--timeout=120s")
    kubectl.wait_ready("daskcluster", "guarded", seconds=240)
    told = kubectl("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert "DrainTimeout" not in told
    assert "FailedPreStopHook" not in told
