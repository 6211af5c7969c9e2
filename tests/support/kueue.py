"""The real Kueue beside a cluster of the tests, where it has been built: its controllers, scheduler and webhooks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from dask_crds.kinds import VISIBILITY
from tests.cluster import ControlPlane, components
from tests.cluster.processes import free_port
from tests.support.aggregation import aggregated

(PROGRAM,) = components.KUEUE
NAMESPACE = "kueue-system"
#: Under this name it asks the API server, so that audit logs can tell who it was.
USER = "kueue-controller"
API = "kueue.x-k8s.io/v1beta2"
#: Kinds of which its webhooks are wanted: its own, and those of its integrations that are on here.
_WEBHOOKS = ("workload", "clusterqueue", "resourceflavor", "pod", "job", "deployment")
#: The places of certificates are fixed: in a folder that is root's, of which nothing else is needed here, and in one
#: beside all others.
_IN_A_ROOM = """set -e; room=/mnt; mount -t tmpfs none $room
for each in /*; do case $each in /etc|/mnt|/visibility) ;; *)
  if [ -L $each ]; then cp -P $each $room; elif [ -d $each ]; then mkdir $room$each; mount --rbind $each $room$each; fi
esac; done
for place in etc/kueue/metrics/certs visibility; do
  mkdir -p $room/$place; cp "$0"/tls.crt "$0"/tls.key $room/$place/
done
exec chroot $room "$@"
"""
#: By which it tells who is in line.
_POSITIONS = VISIBILITY["LocalQueue"]


def built() -> Path:
    """Kueue's program; where it was not built the test is left out."""
    program = components.find(PROGRAM)
    if program is None:
        pytest.skip(f"no Kueue: `python -m tests.cluster {PROGRAM}` builds it")
    return program


@contextlib.contextmanager
def kueue(cluster: ControlPlane, *, tells_positions: bool = False, **configuration: Any) -> Iterator[None]:
    """Kueue with its default configuration, but for what is given; all of it is gone afterwards.

    It serves the API by which it tells who is in line only where it ``tells_positions``.
    """
    program = built()
    folder = str(components.crds(PROGRAM))
    cluster.kubectl("apply", "--server-side", "-f", folder)
    cluster.install_crds()  # until they are served
    cluster.kubectl("apply", "-f", "-", input=json.dumps(_object("v1", "Namespace", NAMESPACE)))
    try:
        health, port, visibility = (free_port() for _ in range(3))
        if tells_positions:
            served = {"bindAddress": "127.0.0.1", "bindPort": visibility}
            configuration |= {"visibilityServer": served, "featureGates": {"VisibilityOnDemand": True}}
        _start(cluster, program, health, port, configuration)
        with _webhooks(cluster, port), _told(cluster, visibility) if tells_positions else contextlib.nullcontext():
            yield
        cluster.processes.check()
    finally:
        cluster.processes.stop(PROGRAM, seconds=2)
        _without_finalizers(cluster)
        cluster.kubectl("delete", "--timeout=60s", "-f", folder)


def _start(cluster: ControlPlane, program: Any, health: int, port: int, configuration: Mapping[str, Any]) -> None:
    """Start the process with these ports for probes and webhooks."""
    certificates = cluster.folder / "kueue"
    certificates.mkdir(exist_ok=True)
    cluster.pki.issue(USER, USER, groups=["system:masters"])
    kubeconfig = cluster.pki.kubeconfig(certificates / "kubeconfig", f"https://{cluster.host}:{cluster.port}", USER)
    cluster.pki.issue("kueue", "kueue", hosts=["127.0.0.1"])
    for part in ("crt", "key"):
        shutil.copy(cluster.pki.folder / f"kueue.{part}", certificates / f"tls.{part}")
    release = components.source(PROGRAM) / "config" / "components" / "manager" / "controller_manager_config.yaml"
    wanted = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "controller": yaml.safe_load(release.read_text())["controller"],  # how much it does at a time
        "namespace": NAMESPACE,
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": "127.0.0.1", "port": port, "certDir": str(certificates)},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "integrations": {"frameworks": ["batch/job", "pod", "deployment"]},
        "featureGates": {"VisibilityOnDemand": False},
        **configuration,
    }
    file = certificates / "configuration.yaml"
    file.write_text(yaml.safe_dump(wanted))
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    command = [*alone, "sh", "-c", _IN_A_ROOM, str(certificates), str(program)]
    cluster.processes.start(PROGRAM, *command, f"--config={file}", f"--kubeconfig={kubeconfig}")


def _told(cluster: ControlPlane, port: int) -> contextlib.AbstractContextManager[None]:
    return aggregated(cluster, _POSITIONS.group, _POSITIONS.version, port=port)


@contextlib.contextmanager
def _webhooks(cluster: ControlPlane, port: int) -> Iterator[None]:
    source = components.source(PROGRAM) / "config" / "components" / "webhook" / "manifests.yaml"
    authority = cluster.pki.certificate.read_bytes()
    items = []
    for manifest in yaml.safe_load_all(source.read_text()):
        kept = [hook for hook in manifest["webhooks"] if hook["name"].partition(".")[0][1:] in _WEBHOOKS]
        for hook in kept:
            path = hook["clientConfig"]["service"]["path"]
            hook["clientConfig"] = {"url": f"https://127.0.0.1:{port}{path}", "caBundle": b64encode(authority).decode()}
            if hook["name"].partition(".")[0][1:] in ("pod", "deployment", "job"):  # as its release has them
                outside = {"key": "kubernetes.io/metadata.name", "operator": "NotIn"}
                hook["namespaceSelector"] = {"matchExpressions": [{**outside, "values": ["kube-system", NAMESPACE]}]}
        items.append({**manifest, "webhooks": kept, "metadata": {"name": f"kueue-{manifest['metadata']['name']}"}})
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    try:
        _ready(cluster)
        cluster.kubectl("apply", "-f", "-", input=manifest)
        yield
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "-f", "-", input=manifest)


def _ready(cluster: ControlPlane) -> None:
    cluster.wait(lambda: "Starting workers" in (cluster.folder / f"{PROGRAM}.log").read_text(), "Kueue")


def _without_finalizers(cluster: ControlPlane) -> None:
    """Its queues and flavors have finalizers that nobody takes away any more."""
    for kind in ("clusterqueues", "resourceflavors", "admissionchecks", "workloads", "pods"):
        for found in json.loads(cluster.kubectl("get", kind, "-A", "-o", "json"))["items"]:
            metadata = found["metadata"]
            if any(finalizer.startswith("kueue.x-k8s.io/") for finalizer in metadata.get("finalizers", ())):
                where = ["-n", metadata["namespace"]] if "namespace" in metadata else []
                patch = '-p={"metadata":{"finalizers":null}}'
                cluster.kubectl("patch", *where, kind, metadata["name"], "--type=merge", patch)


def _object(api_version: str, kind: str, name: str, **body: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **body}


# --- objects ----------------------------------------------------------------------------------------------------------


def flavor(name: str, labels: Mapping[str, str] | None = None, tolerations: Sequence[Any] = ()) -> dict[str, Any]:
    spec = {**({"nodeLabels": labels} if labels else {}), **({"tolerations": tolerations} if tolerations else {})}
    return _object(API, "ResourceFlavor", name, spec=spec)


def cluster_queue(name: str, flavor: str, cpu: str, **spec: Any) -> dict[str, Any]:
    resources = [{"name": "cpu", "nominalQuota": cpu}, {"name": "memory", "nominalQuota": "1Ti"}]
    group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": flavor, "resources": resources}]}
    wanted = {
        "namespaceSelector": {},
        "resourceGroups": [group],
        "preemption": {"withinClusterQueue": "LowerPriority"},
        **spec,
    }
    return _object(API, "ClusterQueue", name, spec=wanted)


def local_queue(name: str, cluster_queue: str) -> dict[str, Any]:
    return _object(API, "LocalQueue", name, spec={"clusterQueue": cluster_queue})


def priority(name: str, value: int) -> dict[str, Any]:
    return _object(API, "WorkloadPriorityClass", name, value=value, description="of a test")


def intruder(name: str, queue: str, cpu: str, *, priority_class: str, count: int = 1) -> dict[str, Any]:
    """A Job that waits in a queue by Kueue's own means."""
    resources = {"requests": {"cpu": cpu, "memory": "1Mi"}}
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1", "resources": resources}]}
    labels = {"kueue.x-k8s.io/queue-name": queue, "kueue.x-k8s.io/priority-class": priority_class}
    spec = {"suspend": True, "parallelism": count, "completions": count, "template": {"spec": pod}}
    job = _object("batch/v1", "Job", name, spec=spec)
    job["metadata"]["labels"] = labels
    return job
