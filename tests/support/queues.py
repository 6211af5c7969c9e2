"""A queue of Kueue in the namespace of a test, and what is asked of it."""

from __future__ import annotations

import functools
import json
from typing import Any

from dask_crds.names import Label
from tests.e2e import support
from tests.e2e.support import Kubectl
from tests.support.kueue import cluster_queue, flavor, local_queue

QUEUE = "team"
eventually = functools.partial(support.eventually, seconds=180)


class Queue:
    """A queue with a flavor of its own, and all that runs in its namespace."""

    def __init__(self, kubectl: Kubectl, cpu: str, **of_flavor: Any) -> None:
        self.kubectl, self.name = kubectl, kubectl.namespace
        kubectl.apply(flavor(self.name, **of_flavor))
        kubectl.apply(cluster_queue(self.name, self.name, cpu))
        kubectl.apply(local_queue(QUEUE, self.name))

    def set_quota(self, cpu: str) -> None:
        self.kubectl.apply(cluster_queue(self.name, self.name, cpu))

    def stop(self, policy: str) -> None:
        self.kubectl("patch", "clusterqueue", self.name, "--type=merge", f'-p={{"spec":{{"stopPolicy":"{policy}"}}}}')

    def workloads(self, role: str = "") -> list[dict[str, Any]]:
        label = f"{Label.QUEUE_ROLE}={role}" if role else Label.QUEUE_ROLE
        return list(self.kubectl.json("get", "workloads", "-l", label)["items"])

    def admitted(self, role: str) -> int:
        return sum(is_true(w, "Admitted") and not is_true(w, "Evicted") for w in self.workloads(role))

    def pods(self, component: str = "") -> list[dict[str, Any]]:
        """Those of Dask that are not gone."""
        label = f"{Label.COMPONENT}={component}" if component else Label.COMPONENT
        return list(self.kubectl.json("get", "pods", "-l", label)["items"])

    def used(self) -> int:
        """Thousandths of a CPU that Pods of the namespace ask for, those that are being deleted included."""
        running = (p for p in self.kubectl.json("get", "pods")["items"] if p["status"].get("phase") in (None, *_LIVING))
        requests = (c["resources"].get("requests", {}) for p in running for c in p["spec"]["containers"])
        return sum(milli(each.get("cpu", "0m")) for each in requests)


_LIVING = ("Pending", "Running")


def items(*manifests: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})


def is_true(of: dict[str, Any], type: str) -> bool:
    conditions = of.get("status", {}).get("conditions", [])
    return any(c["type"] == type and c["status"] == "True" for c in conditions)


def milli(amount: str) -> int:
    return int(amount[:-1]) if amount.endswith("m") else 1000 * int(amount)


def queued(manifest: dict[str, Any], *, priority_class: str = "") -> dict[str, Any]:
    labels = {Label.QUEUE: QUEUE} | ({Label.PRIORITY_CLASS: priority_class} if priority_class else {})
    return {**manifest, "metadata": {**manifest["metadata"], "labels": labels}}


def workers(replicas: int, guaranteed: int | None = None) -> dict[str, Any]:
    """Workers of one CPU, which nobody waits for when they go: there is no scheduler that could be asked."""
    extra = {"drainTimeoutSeconds": 0} | ({} if guaranteed is None else {"guaranteed": guaranteed})
    return {"workers": replicas, "worker_cpu": "1", "worker_extra": extra}


def why(kubectl: Kubectl, kind: str, name: str, type: str = "Admitted") -> str:
    found = kubectl.status(kind, name).get("conditions", [])
    return next((f"{c['status']} {c['reason']}: {c.get('message', '')}" for c in found if c["type"] == type), "")
