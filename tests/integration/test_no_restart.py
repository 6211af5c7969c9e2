"""No restart without a real difference: what the API server fills in is none."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support.controller import Controller

from dask_resources.revision import revision

pytestmark = pytest.mark.control_plane

PROBE: dict[str, Any] = {"httpGet": {"port": 8788}}
#: A PodSpec that says as little as it can, of everything that has defaults.
TERSE: dict[str, Any] = {
    "serviceAccountName": "worker",
    "initContainers": [{"name": "fetch", "image": "registry.example.com/fetch", "restartPolicy": "Always"}],
    "containers": [
        {
            "name": "worker",
            "image": "registry.example.com/dask:1",
            "ports": [{"containerPort": 8788}],
            "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "livenessProbe": PROBE,
            "readinessProbe": {"tcpSocket": {"port": 8788}},
            "startupProbe": {"exec": {"command": ["true"]}},
            "resources": {"limits": {"memory": "1Gi"}},
        },
        {"name": "log", "image": "registry.example.com/log@sha256:" + "0" * 64},
        {"name": "newest", "image": "registry.example.com:5000/log:latest"},
    ],
    "volumes": [
        {"name": "a", "configMap": {"name": "a"}},
        {"name": "b", "secret": {"secretName": "b"}},
        {"name": "c", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
        {"name": "d", "emptyDir": {}},
        {"name": "e", "downwardAPI": {"items": []}},
    ],
    "terminationGracePeriodSeconds": 30,
}


def test_a_template_with_all_its_defaults_is_the_same_template(kubectl: Kubectl) -> None:
    manifest = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": {"spec": TERSE}}
    answer = kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(manifest))
    filled = json.loads(answer)["template"]["spec"]
    assert filled != TERSE
    assert filled["containers"][0]["terminationMessagePolicy"] == "File"
    assert revision(filled) == revision(TERSE)
    changed = copy.deepcopy(filled)
    changed["containers"][0]["livenessProbe"]["periodSeconds"] = 11
    assert revision(changed) != revision(TERSE)


def test_neither_defaults_nor_empty_fields_nor_another_operator_restart_anything(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    kube = Manifests(control_plane.kubeconfig, namespace)
    controller = Controller(control_plane, namespace)
    try:
        manifest = kube.cluster_manifest("calm", workers=2)
        kubectl.apply(manifest)
        kubectl.wait_ready("daskcluster", "calm")

        def uids() -> set[str]:
            return {p["metadata"]["uid"] for p in kubectl.json("get", "pods")["items"]}

        before = uids()
        assert len(before) == 3
        for role in ("scheduler", "worker"):
            pod = manifest["spec"][role]["spec"]
            pod |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "tolerations": [], "securityContext": {}}
            pod["containers"][0] |= {"imagePullPolicy": "IfNotPresent", "volumeMounts": [], "lifecycle": None}
            pod["containers"][0]["readinessProbe"] |= {"successThreshold": 1, "failureThreshold": 3}
        kubectl.apply(manifest)
        generation = kubectl.json("get", "daskcluster", "calm")["metadata"]["generation"]
        assert generation > 1, "the API server has seen a change"
        eventually(lambda: kubectl.status("daskcluster", "calm")["observedGeneration"] == generation)
        controller.kill()
        controller.start()
        # Something that shows that the new operator has looked at the groups.
        kubectl("scale", "daskworkergroup", "calm-default", "--replicas=3")
        eventually(lambda: kubectl.status("daskworkergroup", "calm-default").get("readyReplicas") == 3)
        kubectl.wait_ready("daskcluster", "calm")
        assert before < uids()
        assert len(uids()) == 4
    finally:
        controller.kill()
