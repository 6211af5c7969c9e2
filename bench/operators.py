"""Who is measured: a native Deployment, dask-gitops now and before a change, dask-kubernetes.

Each has a user and a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
from tests.cluster import ControlPlane
from tests.cluster.processes import Processes
from tests.support import kueue

ROOT = Path(__file__).parent.parent
NATIVE, OURS, THEIRS = "native", "dask-gitops", "dask-kubernetes"
BEFORE = "before"  #: dask-gitops from another checkout
NOBODY = "no operator"  #: for what the objects alone take
ACTIVATOR = "dask-activator"  #: beside ours
QUEUES = "Kueue"  #: who does a part of the work for all in the scenario that has it

#: Who writes on behalf of each: of Kubernetes itself those whose work Deployments and Jobs are.
USERS = {
    NATIVE: [f"system:serviceaccount:kube-system:{name}-controller" for name in ("deployment", "replicaset", "job")],
    NOBODY: [],
    BEFORE: [BEFORE],
    OURS: [OURS],
    THEIRS: [THEIRS],
    ACTIVATOR: [ACTIVATOR],
    QUEUES: [kueue.USER],
}
_RUN = ["-m", "dask_controller", "run", "--all-namespaces", "--port", "0", "--leader-elect"]
COMMANDS = {
    BEFORE: _RUN,
    OURS: _RUN,
    THEIRS: ["-m", "kopf", "run", "-m", "dask_kubernetes.operator.controller", "--all-namespaces"],
    # An address that Kubernetes takes: it takes no loopback.
    ACTIVATOR: ["-m", "dask_controller.activator", "--all-namespaces", "--address", "192.0.2.7", "--port", "0"],
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
    return [
        f"--audit-policy-file={folder}/audit-policy.json",
        f"--audit-log-path={folder}/audit.log",
        "--audit-log-maxsize=100000",  # MB; else it starts a new file, and what is counted loses its place
    ]


class _User(msgspec.Struct):
    username: str


class _Target(msgspec.Struct):
    resource: str
    subresource: str = ""


class _Entry(msgspec.Struct, rename="camel"):
    """A line of the audit log."""

    user: _User
    object_ref: _Target


_entry = msgspec.json.Decoder(_Entry)


class Operator:
    """An operator; a context manager that runs its process, unless it is a part of Kubernetes.

    Args:
        name: one of `NATIVE`, `NOBODY`, `BEFORE`, `OURS`, `THEIRS`.
        plane: where it works.
        folder: for its log; the audit log is there, too.
        checkout: of dask-gitops, whose code and CRDs it has.
    """

    def __init__(self, name: str, plane: ControlPlane, folder: Path, checkout: Path = ROOT) -> None:
        self.name = name
        self.checkout = checkout
        self._plane = plane
        self._folder = folder
        self._processes = Processes(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._past_cpu = 0.0  # of processes that have ended
        self._writes: Counter[str] = Counter()
        self._read = 0  # so much of the audit log

    def __enter__(self) -> Operator:
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
            code = os.pathsep.join(str(self.checkout / root) for root in ("controller", "resources", "crds"))
            environment = {"KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": "default", "PYTHONPATH": code}
            self._process = self._processes.start(self.name, sys.executable, *COMMANDS[self.name], env=environment)

    def stop(self) -> None:
        """Stop its process."""
        self._end(seconds=20)

    def kill(self) -> None:
        """``kill -9``: it cannot say goodbye."""
        self._end(seconds=0)

    def _end(self, seconds: float) -> None:
        self._past_cpu = self.cpu_seconds()
        self._process = None
        self._processes.stop(seconds=seconds)

    @property
    def alive(self) -> bool:
        """Whether its process runs; Kubernetes has none of its own."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Raise RuntimeError with the end of its log if its process has ended by itself."""
        self._processes.check()

    def cpu_seconds(self) -> float:
        """CPU time used so far, by all its processes."""
        return self._past_cpu + (cpu_seconds(self._process.pid) if self._process and self.alive else 0.0)

    def peak_mib(self) -> float:
        """The most memory that its process ever had resident."""
        return self._kib("status", "VmHWM:") / 1024

    def memory_mib(self) -> float:
        """Memory now, its part of what it shares with other processes included."""
        return self._kib("smaps_rollup", "Pss:") / 1024

    def _kib(self, file: str, field: str) -> int:
        if self._process is None or not self.alive:
            return 0
        lines = Path(f"/proc/{self._process.pid}/{file}").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field))

    def writes(self) -> Counter[str]:
        """Write requests that the API server got from it so far, by resource; ``leases`` are renewals of its own."""
        with contextlib.suppress(FileNotFoundError), (self._folder / "audit.log").open("rb") as log:
            log.seek(self._read)
            while (line := log.readline()).endswith(b"\n"):  # else it is being written
                self._read += len(line)
                entry = _entry.decode(line)
                target = entry.object_ref
                if entry.user.username in USERS[self.name]:
                    self._writes["/".join(filter(None, (target.resource, target.subresource)))] += 1
        return self._writes.copy()

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


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def install_crds(plane: ControlPlane, operator: Operator) -> None:
    """The CRDs of one operator instead of the other's; their schemas differ."""
    plane.kubectl("delete", "crd", "--all", "--wait=true")
    if operator.name == THEIRS:
        import dask_kubernetes.operator as upstream

        folder = Path(upstream.__file__).parent / "deployment/helm/dask-kubernetes-operator/crds"
        plane.install_crds(folder)
    else:
        plane.install_crds(operator.checkout / "dist/crds")
