"""`kubectl dask` against a real API server: every command, the rights of each, and what `why` says of real faults."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support.controller import Controller
from tests.support.plugin import Dask

from dask_gitops.kubectl import connections
from dask_gitops.kubectl.rights import RIGHTS, Right

pytestmark = pytest.mark.control_plane


@pytest.fixture
def dask(control_plane: ControlPlane, namespace: str) -> Dask:
    return Dask(control_plane.kubeconfig, namespace)


def autoscaler(cluster: str, group: str | None = None) -> dict[str, Any]:
    spec = {"cluster": cluster, "maximum": 3, **({"workerGroup": group} if group else {})}
    metadata = {"name": group or cluster}
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler", "metadata": metadata, "spec": spec}


# --- what is seen and changed -----------------------------------------------------------------------------------------


def test_status_and_the_changes_that_people_make(dask: Dask, kubectl: Kubectl, kube: Manifests, controller: Controller):
    manifest = kube.cluster_manifest("analytics", workers=2, worker_extra={"drainTimeoutSeconds": 0})
    container = manifest["spec"]["worker"]["spec"]
    manifest["spec"]["workerGroups"] = [{"name": "big", "spec": container, "drainTimeoutSeconds": 0}]
    kubectl.apply(manifest)
    kubectl.wait_ready("daskcluster", "analytics")

    (root,) = dask.json("status")
    assert (root["kind"], root["name"], root["namespace"]) == ("DaskCluster", "analytics", kubectl.namespace)
    assert (root["state"], root["reason"], root["workers"]) == ("fine", "Ready", "3/3")
    kinds = [(node["kind"], node["name"].rpartition("-scheduler-")[0] or node["name"]) for node in root["children"]]
    assert kinds == [
        ("Scheduler", "analytics"),
        ("DaskWorkerGroup", "analytics-default"),
        ("DaskWorkerGroup", "analytics-big"),
    ]
    assert [pod["name"] for pod in root["children"][1]["children"]] == [
        "analytics-default-worker-0",
        "analytics-default-worker-1",
    ]
    text = dask("status", "analytics")
    assert "DaskCluster analytics  Ready, 3/3 workers, tcp://analytics-scheduler." in text
    assert "\x1b" not in text
    assert dask.why("analytics") == "Ready"
    assert dask.why("group/analytics-big") == "Ready"

    assert "to have 3 workers" in dask("scale", "analytics", "3")
    assert kubectl.json("get", "daskcluster", "analytics")["spec"]["worker"]["replicas"] == 3
    dask("scale", "group/analytics-default", "1")  # whose cluster hands the number on
    assert kubectl.json("get", "daskcluster", "analytics")["spec"]["worker"]["replicas"] == 1
    dask("scale", "group/analytics-big", "2")
    eventually(lambda: kubectl.status("daskworkergroup", "analytics-big").get("readyReplicas") == 2)
    kubectl.wait_ready("daskcluster", "analytics")

    def revisions() -> list[str]:
        pods = kubectl.json("get", "pods", "-l", "dask.org/component=worker")["items"]
        return sorted({pod["metadata"]["labels"]["dask.org/revision"] for pod in pods})

    before = revisions()
    dask("restart", "analytics")
    dask("restart", "analytics", "--group", "big")
    eventually(lambda: not set(revisions()) & set(before), seconds=90)
    kubectl.wait_ready("daskcluster", "analytics")

    dask("suspend", "analytics")
    eventually(lambda: dask.why("analytics") == "Suspended")
    assert kubectl.json("get", "daskcluster", "analytics")["spec"]["suspend"] is True
    dask("resume", "analytics")
    kubectl.wait_ready("daskcluster", "analytics")
    (line,) = dask.json("top")["items"]
    assert (line["name"], line["reason"], line["workers"], line["cpu"]) == ("analytics", "Ready", "3/3", None)
    assert "analytics" in dask("top")


def test_jobs(dask: Dask, kubectl: Kubectl, kube: Manifests, controller: Controller):
    manifest = kube.job_manifest("etl", "pass", workers=1)
    manifest["spec"]["job"]["metadata"] = {"annotations": {"test.dask.org/exit-code": "0"}}
    kubectl.apply(manifest)
    eventually(lambda: dask.why("etl") == "Completed", seconds=90)
    assert "runs again, as generation-1" in dask("rerun", "etl")
    eventually(lambda: kubectl.status("daskjob", "etl").get("runId") == "generation-1", seconds=90)
    again = dask.run("rerun", "etl", "--run-id", "generation-1")
    assert again.exit_code == 1
    assert "already" in again.output
    for asked in ([], ["job/etl"]):
        (root,) = dask.json("status", *asked)
        assert root["kind"] == "DaskJob"
    refused = dask.run("status", "group/etl-default")
    assert "group is no kind that this command takes; they are" in refused.output
    dask("suspend", "etl")
    assert kubectl.json("get", "daskjob", "etl")["spec"]["suspend"] is True
    dask("resume", "job/etl")
    eventually(lambda: dask.why("etl") == "Completed", seconds=90)


def test_who_states_a_field_is_told(dask: Dask, kubectl: Kubectl, kube: Manifests):
    manifest = kube.cluster_manifest("stated", workers=1, suspend=False)
    kubectl("apply", "--server-side", "--field-manager=argocd-controller", "-f", "-", input=json.dumps(manifest))
    done = dask.run("suspend", "stated")
    assert done.exit_code == 0
    assert "Argo CD states spec.suspend from Git and will put it back" in done.stderr
    assert "Argo CD states spec.worker.replicas from Git" in dask.json("scale", "stated", "2")["note"]
    assert "rerun" not in dask.json("scale", "stated", "2")["note"]


def test_an_autoscaler_is_not_fought(dask: Dask, kubectl: Kubectl, kube: Manifests, controller: Controller):
    kubectl.apply(kube.cluster_manifest("load", workers=1))
    kubectl.apply(autoscaler("load"))
    eventually(lambda: kubectl.status("daskworkergroup", "load-default").get("autoscaler") == "load")
    done = dask.run("scale", "load", "5")
    assert done.exit_code == 1
    assert "DaskAutoscaler load sets the number of workers" in done.output
    assert kubectl.json("get", "daskcluster", "load")["spec"]["worker"]["replicas"] == 1
    eventually(lambda: dask.why("autoscaler/load") == "SchedulerSilent")  # fake Pods have no address


# --- connections ------------------------------------------------------------------------------------------------------


def test_connect_gives_a_command_its_environment(
    dask: Dask, kubectl: Kubectl, kube: Manifests, controller: Controller, capfd: pytest.CaptureFixture[str]
):
    kubectl.apply(kube.cluster_manifest("near", workers=1))
    kubectl.wait_ready("daskcluster", "near")
    done = dask.run("connect", "near", "--", "sh", "-c", "echo at $DASK_SCHEDULER_ADDRESS; exit 7")
    assert done.exit_code == 7
    assert "at tcp://127.0.0.1:" in capfd.readouterr().out
    done = dask.run("connect", "near", "--tls", "certificates", "--", "true")
    assert done.exit_code == 1
    assert "speaks plain TCP" in done.output
    assert "nothing-of-the-kind" in dask.run("connect", "near", "--", "nothing-of-the-kind").output


def test_a_connection_that_fails_is_told_in_words(
    control_plane: ControlPlane, kubectl: Kubectl, kube: Manifests, controller: Controller
):
    """Fake Pods take none."""
    kubectl.apply(kube.cluster_manifest("fake", workers=0))
    eventually(lambda: kubectl.condition("daskcluster", "fake", "SchedulerReady").get("status") == "True")
    knock = (
        "import os, socket; host, port = os.environ['DASK_SCHEDULER_ADDRESS'].removeprefix('tcp://').split(':');"
        "knocks = socket.create_connection((host, int(port))); knocks.sendall(b'x'); print(knocks.recv(1))"
    )
    command = ["connect", "fake", "-n", kubectl.namespace, "--", sys.executable, "-c", knock]
    done = started(control_plane, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, told = done.communicate(timeout=120)
    assert (done.returncode, out) == (0, "b''\n"), told
    assert "Traceback" not in told


def test_top_goes_on_until_ctrl_c(control_plane: ControlPlane, kubectl: Kubectl, kube: Manifests):
    kubectl.apply(kube.cluster_manifest("shown", workers=1))
    ours, theirs = pty.openpty()
    process = started(control_plane, "top", "-n", kubectl.namespace, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"shown" not in seen:
        seen += os.read(ours, 1000)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    os.set_blocking(ours, False)
    with contextlib.suppress(OSError):  # of what nobody writes to any more
        seen += os.read(ours, 100_000)
    os.close(ours)
    assert b"Traceback" not in seen


def started(plane: ControlPlane, *arguments: str, **how: Any) -> subprocess.Popen[Any]:
    """The command as a process that Ctrl-C ends, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "dask_gitops.kubectl", *arguments],
        env=os.environ | {"KUBECONFIG": str(plane.kubeconfig)},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
        **how,
    )


# --- names and rights -------------------------------------------------------------------------------------------------


def test_names(dask: Dask, kubectl: Kubectl, kube: Manifests):
    kubectl.apply(kube.cluster_manifest("analytics", workers=1))
    for command in ("status", "why", "logs", "suspend", "restart"):
        done = dask.run(command, "analytisc")
        assert done.exit_code == 1
        assert "did you mean analytics?" in done.output, command
    assert "no kind that this command takes" in dask.run("rerun", "cluster/analytics").output
    assert "has no Pod of that kind" in dask.run("logs", "analytics").output


def test_kubectl_finds_it(control_plane: ControlPlane, kubectl: Kubectl, kube: Manifests, tmp_path: Path):
    kubectl.apply(kube.cluster_manifest("mine", workers=1))
    plugin = tmp_path / "kubectl-dask"
    plugin.write_text(f'#!/bin/sh\nexec {sys.executable} -m dask_gitops.kubectl "$@"\n')
    plugin.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    inline = control_plane.kubectl("config", "view", "--raw", "--flatten")
    (tmp_path / "kubeconfig").write_text(inline)
    assert "client-key-data" in inline
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {"PATH": path, "KUBECONFIG": f"{tmp_path}/kubeconfig", "TMPDIR": f"{tmp_path}/tmp"}
    command = [str(control_plane.programs["kubectl"]), "dask", "status", "-A", "-o", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (kubectl.namespace, "mine") in {(root["namespace"], root["name"]) for root in json.loads(done.stdout)}
    assert done.stderr == ""
    assert os.listdir(tmp_path / "tmp") == [], "nobody's key stays behind"


# --- rights -----------------------------------------------------------------------------------------------------------

#: How each command is called, so that all of its rights are used.
CALLS: dict[str, list[list[str]]] = {
    "status": [["status"]],
    "why": [["why", "cluster/analytics"]],
    "logs": [["logs", "cluster/analytics"]],
    "dashboard": [["dashboard", "analytics"]],
    "connect": [["connect", "analytics", "--", "true"], ["connect", "analytics", "--tls", "{tmp}", "--", "true"]],
    "scale": [["scale", "analytics", "1"], ["scale", "group/analytics-extra", "1"]],
    "suspend": [["suspend", "job/etl"], ["suspend", "cluster/analytics"]],
    "resume": [["resume", "job/etl"], ["resume", "cluster/analytics"]],
    "restart": [["restart", "cluster/analytics"], ["restart", "group/analytics-extra"]],
    "rerun": [["rerun", "etl"]],
    "top": [["top", "--once"]],
}
#: What fake Pods cannot do; the API server has let the user in by then.
WITHOUT_KUBELET = {"logs"}


class Users:
    """Users with one Role each."""

    def __init__(self, plane: ControlPlane, namespace: str, folder: Path) -> None:
        self._plane, self._namespace, self._folder = plane, namespace, folder
        self._objects: list[dict[str, Any]] = []

    def add(self, name: str, rules: list[dict[str, Any]]) -> Dask:
        metadata = {"name": name, "namespace": self._namespace}
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": metadata}
        subject = {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        role = {"kind": "Role", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        self._objects += [
            {**rbac, "kind": "Role", "rules": rules},
            {**rbac, "kind": "RoleBinding", "subjects": [subject], "roleRef": role},
        ]
        self._plane.pki.issue(name, name)
        server = f"https://127.0.0.1:{self._plane.port}"
        return Dask(self._plane.pki.kubeconfig(self._folder / name, server, name), self._namespace)

    def apply(self) -> None:
        manifest = {"apiVersion": "v1", "kind": "List", "items": self._objects}
        self._plane.kubectl("apply", "-f", "-", input=json.dumps(manifest))
        last = self._objects[-2]
        rule, name = last["rules"][-1], last["metadata"]["name"]
        resource = f"{rule['resources'][0]}.{rule['apiGroups'][0]}".rstrip(".")
        question = ("auth", "can-i", rule["verbs"][0], resource, "-n", self._namespace, f"--as={name}")
        eventually(lambda: self._plane.kubectl(*question).strip() == "yes")


@pytest.fixture
def settled(kubectl: Kubectl, kube: Manifests, controller: Controller) -> Iterator[None]:
    """A cluster with TLS, a further group and a job."""
    security = {"tls": {"mode": "Secret", "secretName": "certificates"}}
    kubectl.apply(kube.cluster_manifest("analytics", workers=1, security=security))
    kubectl.apply(kube.group_manifest("analytics-extra", "analytics", workers=1))
    files = [f"--from-literal={name}=x" for name in ("ca.crt", "tls.crt", "tls.key")]
    kubectl("create", "secret", "generic", "certificates", *files)
    kubectl.apply(kube.job_manifest("etl", "pass", suspend=True))
    eventually(lambda: kubectl.status("daskworkergroup", "analytics-extra").get("readyReplicas") == 1)
    eventually(lambda: kubectl.condition("daskcluster", "analytics", "SchedulerReady").get("status") == "True")
    return


def each_right(rights: tuple[Right, ...]) -> list[tuple[dict[str, Any], bool]]:
    return [(rule, right.optional) for right in rights for rule in right.rules]


def test_each_command_needs_the_rights_that_it_states(
    control_plane: ControlPlane, namespace: str, settled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With exactly those it succeeds; one less is named, and the rest is done where it was optional."""

    async def at_once() -> None:
        pass

    monkeypatch.setattr(connections, "_until_interrupted", at_once)
    users = Users(control_plane, namespace, tmp_path)
    exact: dict[str, Dask] = {}
    lacking: list[tuple[str, dict[str, Any], bool, Dask]] = []
    for command, rights in RIGHTS.items():
        rules = each_right(rights)
        exact[command] = users.add(f"{command}-all", [rule for rule, _ in rules])
        for number, (missing, optional) in enumerate(rules):
            kept = [rule for rule, _ in rules if rule is not missing]
            lacking.append((command, missing, optional, users.add(f"{command}-{number}", kept)))
    users.apply()
    for command, dask in exact.items():
        for done in calls(command, dask, tmp_path):
            assert done.exit_code == 0 or command in WITHOUT_KUBELET, (command, done.output)
            assert "may not" not in done.output, (command, done.output)
            assert "without the right" not in done.output, (command, done.output)
    for command, missing, optional, dask in lacking:
        done = calls(command, dask, tmp_path)
        group = f".{missing['apiGroups'][0]}" if missing["apiGroups"][0] else ""
        resource, slash, subresource = missing["resources"][0].partition("/")
        named = f"{missing['verbs'][0]} {resource}{group}{slash}{subresource}"
        assert named in " ".join(" ".join(each.output for each in done).split()), (command, named, done)
        if command not in WITHOUT_KUBELET:
            assert any(each.exit_code == 1 for each in done) != (optional and command != "connect"), (command, named)


def calls(command: str, dask: Dask, folder: Path) -> list[Result]:
    return [dask.run(*(word.format(tmp=folder / "tls") for word in call)) for call in CALLS[command]]
