"""The scheduler's module with the oldest and the newest Dask that are supported, and with a scheduler that hides it.

The programs run in the cluster's own image, because a client has to be of the same version as its scheduler.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.cluster import images
from tests.e2e.support import DASK_IMAGE, Kubectl, eventually, ready_pods
from tests.support.dask_scheduler import MODULE

pytestmark = pytest.mark.node

#: Two years of releases; what the tests use otherwise is the newest one.
OLDEST = "2024.11.2"

SCATTER = """
from distributed import Client
client = Client("localhost:8786")
client.wait_for_workers(2)
data = []
for number, address in enumerate(client.scheduler_info()["workers"]):
    data += client.scatter([bytes([number, n]) * 1000 for n in range(10)], workers=[address], hash=False)
assert all(len(holders) == 1 for holders in client.who_has(data).values())
client.publish_dataset(data=data)
"""
GATHER = """
from distributed import Client
client = Client("localhost:8786")
wanted = [bytes([number, n]) * 1000 for number in range(2) for n in range(10)]
assert client.gather(client.get_dataset("data")) == wanted
print(len(client.scheduler_info()["workers"]), "worker has everything")
"""

#: What the operator puts each second, and how the module of this release answers it.
ASK = """
import hashlib, hmac, json, secrets, time, urllib.request
question = {
    "idle": True, "no_client": True, "progress": True, "versions": True, "registered": ["nobody"], "rank": ["nobody"],
    "target": {"group": {"workers": []}, "before": [], "after": []}, "retire": ["nobody"], "resume": ["nobody"],
}
key, path = open("/etc/dask-gitops-security/control.key", "rb").read(), "/dask-gitops/v2/ask"
body = json.dumps({"questions": [question, {"retire": [1]}]}).encode()
made, nonce, digest = str(int(time.time()) + 1), secrets.token_hex(16), hashlib.sha256(body).hexdigest()
text = "\\n".join(["dask-gitops request", "POST", path, made, nonce, digest])
fields = {"Time": made, "Nonce": nonce, "Signature": hmac.new(key, text.encode(), "sha256").hexdigest()}
headers = {"Content-Type": "application/json", **{f"Dask-Gitops-{name}": value for name, value in fields.items()}}
asked = urllib.request.Request("http://localhost:8788" + path, body, headers)
answer, refused = json.load(urllib.request.urlopen(asked))["answers"]
url = "http://localhost:8787/dask-gitops/v1/"
assert answer["idle_seconds"] is None or answer["idle_seconds"] >= 0
assert answer["no_client_seconds"] >= 0 and answer["versions"]["connected"] in ([], answer["versions"]["scheduler"])
assert (answer["registered"], answer["ranked"], answer["target"]) == ([], ["nobody"], 0), answer
assert answer["retirement"] == answer["resumption"] == {"nobody": "unknown"} and set(refused) == {"error"}
assert answer["versions"]["scheduler"] == answer["versions"]["workers"], answer
print(answer["progress"]["workers"], "workers, version", json.load(urllib.request.urlopen(url + "state"))["version"])
"""
#: Dask's metrics, though its image lacks the package that prints them.
METRICS = """
import importlib.util, urllib.request
assert importlib.util.find_spec("prometheus_client") is None
text = urllib.request.urlopen("http://localhost:8787/metrics").read().decode()
for series in ('dask_scheduler_workers{state="idle"}', 'dask_scheduler_tasks{state="memory"}', 'dask_worker_threads{'):
    assert series in text, text
print(text.count("dask_worker_threads{"), "workers are told of")
"""


def run(kubectl: Kubectl, cluster: str, program: str) -> str:
    """Run a program beside the scheduler."""
    (scheduler,) = ready_pods(kubectl, cluster, "scheduler")
    return kubectl("exec", scheduler["metadata"]["name"], "--", "python3", "-c", program)


def with_image(manifest: dict[str, Any], image: str) -> dict[str, Any]:
    for role in ("scheduler", "worker"):
        manifest["spec"][role]["spec"]["containers"][0]["image"] = image
    del manifest["spec"]["worker"]["spec"]["terminationGracePeriodSeconds"]
    return manifest


@pytest.mark.parametrize("version", [OLDEST, images.DASK_VERSION])
def test_scaling_down_keeps_the_data_and_the_load_is_known(node, kubectl, kube, version: str):
    if node.kind == "node":
        node.load_image(images.dask_image(version))
    image = f"ghcr.io/dask/dask:{version}"
    kubectl.apply(with_image(kube.cluster_manifest("dated", workers=2), image))
    kubectl.wait_ready("daskcluster", "dated", seconds=240)
    run(kubectl, "dated", SCATTER)
    (module_version,) = re.findall(r'^VERSION = "(\d+)"$', MODULE.read_text(), re.MULTILINE)
    assert run(kubectl, "dated", ASK).strip() == f"2 workers, version {module_version}"
    assert "2 workers are told of" in run(kubectl, "dated", METRICS)
    kubectl("scale", "daskworkergroup", "dated-default", "--replicas=1")
    workers = ("get", "pods", "-l", "dask.org/component=worker", "-o", "name")
    eventually(lambda: len(kubectl(*workers).split()) == 1, seconds=120)
    eventually(lambda: "1 worker has everything" in run(kubectl, "dated", GATHER))
    events = kubectl("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert "DrainTimeout" not in events
    spec = {"cluster": "dated", "minimum": 1, "maximum": 2}
    kubectl.apply({**kube.cluster_manifest("dated", workers=1), "kind": "DaskAutoscaler", "spec": spec})
    eventually(lambda: kubectl.condition("daskautoscaler", "dated", "ScalingActive").get("status") == "True")


def test_a_scheduler_without_the_module_works_and_status_says_what_is_missing(kubectl, kube):
    """A `--preload` inside of a shell script hides it."""
    manifest = with_image(kube.cluster_manifest("hidden", workers=1), DASK_IMAGE)
    scheduler = manifest["spec"]["scheduler"]["spec"]["containers"][0]
    scheduler["command"], scheduler["args"] = ["sh", "-c"], ["exec dask-scheduler --preload json"]
    manifest["spec"]["worker"]["drainTimeoutSeconds"] = 30
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "hidden")
    kubectl("scale", "daskworkergroup", "hidden-default", "--replicas=2")
    eventually(lambda: len(ready_pods(kubectl, "hidden", "worker")) == 2)
    kubectl("scale", "daskworkergroup", "hidden-default", "--replicas=1")

    def waits_for() -> str:
        draining = kubectl.status("daskworkergroup", "hidden-default").get("draining") or [{}]
        return draining[0].get("message", "")

    eventually(lambda: "has not loaded the operator's extension" in waits_for())
    eventually(lambda: len(ready_pods(kubectl, "hidden", "worker")) == 1, seconds=90)
    eventually(lambda: "DrainTimeout" in kubectl("get", "events", "-o", "jsonpath={.items[*].reason}"))
