"""Who is measured: a native Deployment, dask-gitops, dask-kubernetes; each with a user and a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster import ControlPlane
from tests.cluster.processes import Processes

ROOT = Path(__file__).parent.parent
NATIVE, OURS, THEIRS = "native", "dask-gitops", "dask-kubernetes"
NOBODY = "no operator"  #: for what the objects alone take

#: Who writes on behalf of each: what a Deployment is to Kubernetes is the work of these two.
USERS = {
    NATIVE: [f"system:serviceaccount:kube-system:{name}-controller" for name in ("deployment", "replicaset")],
    NOBODY: [],
    OURS: [OURS],
    THEIRS: [THEIRS],
}
COMMANDS = {
    OURS: ["-m", "dask_controller", "run", "--all-namespaces", "--port", "0", "--leader-elect"],
    THEIRS: ["-m", "kopf", "run", "-m", "dask_kubernetes.operator.controller", "--all-namespaces"],
}


def audit(folder: Path) -> list[str]:
    """Options of kube-apiserver that record the writes of those whom we measure, and nothing else."""
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "Metadata",
                "users": [user for users in USERS.values() for user in users],
                "verbs": ["create", "update", "patch", "delete", "deletecollection"],
            },
            {"level": "None"},
        ],
    }
    (folder / "audit-policy.json").write_text(json.dumps(policy))
    log = folder / "audit.log"
    log.unlink(missing_ok=True)
    return [f"--audit-policy-file={folder}/audit-policy.json", f"--audit-log-path={log}"]


class Operator:
    """An operator; a context manager that runs its process, unless it is a part of Kubernetes.

    Args:
        name: one of `NATIVE`, `NOBODY`, `OURS`, `THEIRS`.
        plane: where it works.
        folder: for its log; the audit log is there, too.
    """

    def __init__(self, name: str, plane: ControlPlane, folder: Path) -> None:
        self.name = name
        self._plane = plane
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Operator:
        if self.name in COMMANDS:
            install_crds(self._plane, self.name)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start its process."""
        if self.name in COMMANDS:
            self._plane.pki.issue(self.name, self.name, groups=["system:masters"])
            kubeconfig = self._folder / f"{self.name}.kubeconfig"
            self._plane.pki.kubeconfig(kubeconfig, f"https://{self._plane.host}:{self._plane.port}", self.name)
            self._processes = Processes(self._folder)
            environment = {"KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": "default"}
            self._process = self._processes.start(self.name, sys.executable, *COMMANDS[self.name], env=environment)
            time.sleep(5)
            self._processes.check()

    def stop(self) -> None:
        """Stop its process."""
        if self._process is not None:
            self._processes.stop(seconds=20)
            self._process = None

    def cpu_seconds(self) -> float:
        """CPU time used so far."""
        if self._process is None:
            return 0.0
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> float:
        """The most memory that it ever had resident."""
        return self._kib("status", "VmHWM:") / 1024

    def memory_mib(self) -> float:
        """Memory now, its part of what it shares with other processes included."""
        return self._kib("smaps_rollup", "Pss:") / 1024

    def _kib(self, file: str, field: str) -> int:
        if self._process is None:
            return 0
        lines = Path(f"/proc/{self._process.pid}/{file}").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field))

    def writes(self) -> Counter[str]:
        """Write requests that the API server got from it so far, by resource."""
        log = self._folder / "audit.log"
        entries: list[dict[str, Any]] = [json.loads(line) for line in log.open()] if log.exists() else []
        ours = (entry["objectRef"] for entry in entries if entry["user"]["username"] in USERS[self.name])
        return Counter(
            f"{ref['resource']}/{ref['subresource']}" if "subresource" in ref else ref["resource"] for ref in ours
        )

    @contextlib.contextmanager
    def profiled(self, profile: Path) -> Iterator[None]:
        """Sample what it does meanwhile: into ``.speedscope.json``, see https://www.speedscope.app."""
        assert self._process is not None
        command = [Path(sys.executable).with_name("py-spy"), "record", "--rate", "200", "--format", "speedscope"]
        command += ["--nonblocking", "--output", profile, "--pid", str(self._process.pid)]
        sampler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            sampler.send_signal(signal.SIGINT)  # then it writes what it has
            sampler.wait(60)


def install_crds(plane: ControlPlane, who: str) -> None:
    """The CRDs of one operator instead of the other's; their schemas differ."""
    plane.kubectl("delete", "crd", "--all", "--wait=true")
    if who == THEIRS:
        import dask_kubernetes.operator as upstream

        folder = Path(upstream.__file__).parent / "deployment/helm/dask-kubernetes-operator/crds"
        plane.install_crds(folder)
    else:
        plane.install_crds(ROOT / "dist/crds")
