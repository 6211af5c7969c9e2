"""What tests rely on in the fake nodes."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, eventually

pytestmark = pytest.mark.control_plane


def pod(name: str) -> dict[str, Any]:
    spec = {"nodeName": "kwok-0", "containers": [{"name": "main", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_a_pod_that_took_over_a_name_is_not_ended_by_what_was_asked_of_its_predecessor(
    control_plane: ControlPlane, kubectl: Kubectl
) -> None:
    """kwok was late on a busy machine, and a schedule of strangers saw one lose a Pod by no fault of the operator's."""
    kubectl.apply(pod("same"))
    eventually(lambda: kubectl.status("pod", "same").get("phase") == "Running")
    kwok = control_plane.processes.running("kwok")
    kwok.send_signal(signal.SIGSTOP)
    try:
        kubectl("delete", "pod", "same", "--wait=false")
        kubectl("delete", "pod", "same", "--grace-period=0", "--force")
        kubectl.apply(pod("same"))
        kubectl.apply(pod("other"))
        uid = kubectl.json("get", "pod", "same")["metadata"]["uid"]
    finally:
        kwok.send_signal(signal.SIGCONT)
    eventually(lambda: kubectl.status("pod", "other").get("phase") == "Running")
    eventually(lambda: "nobody has asked for the end of this Pod" in control_plane.processes.log("kwok"))
    found = kubectl.json("get", "pod", "same")["metadata"]
    assert (found["uid"], found.get("deletionTimestamp")) == (uid, None)
