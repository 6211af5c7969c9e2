"""A real control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler; and fake nodes by kwok."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from . import components
from .claim import Claim
from .pki import Authority
from .processes import Processes, free_port

SERVICES = "10.96.0.0/16"
START_SECONDS = 120.0
_WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION")

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}],
}


class ControlPlane:
    """A control plane on localhost; a context manager. Admission is Kubernetes' default, Pod security included.

    Args:
        kwok_nodes: fake nodes, on which Pods become Running without any container.
        audit: whether to write down what ServiceAccounts do, see :meth:`audited`.
        apiserver: more options of kube-apiserver, as ``--name=value``.

    Raises:
        components.Unavailable: on entering, where the machine cannot run one.
    """

    kind: ClassVar[str] = "control-plane"
    needs: ClassVar[tuple[str, ...]] = components.CONTROL_PLANE

    def __init__(self, *, kwok_nodes: int = 0, audit: bool = False, apiserver: Sequence[str] = ()) -> None:
        self._kwok_nodes = kwok_nodes
        self._audit = audit
        self._more = apiserver
        self.host = "127.0.0.1"  #: under which the API server is reached from here
        self._prefix: list[str] = []

    def __enter__(self) -> Self:
        if sys.platform != "linux":
            raise components.Unavailable("an API server of our own needs Linux")
        self.programs = components.ensure(self.needs)
        self.claim = Claim.take()
        self.folder = self.claim.folder
        self._located()
        self.processes = Processes(self.folder, self._prefix)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.stop(seconds=0)
        self.claim.release()

    # --- use ----------------------------------------------------------------------------------------------------------

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of an administrator, for use on this machine."""
        return self.folder / "admin.kubeconfig"

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Run kubectl; raises subprocess.CalledProcessError, whose ``stderr`` says why."""
        command = [str(self.programs["kubectl"]), "--kubeconfig", str(self.kubeconfig), *args]
        try:
            return subprocess.run(command, input=input, check=True, text=True, capture_output=True).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise

    def install_crds(self, *folders: Path) -> None:
        """Apply CustomResourceDefinitions and wait until they are served."""
        for folder in folders:
            option = "-k" if (folder / "kustomization.yaml").exists() else "-f"
            self.kubectl("apply", "--server-side", option, str(folder))
        # Again and again: `wait` fails on one that has no conditions yet.
        established = ("wait", "crd", "--all", "--for=condition=Established", "--timeout=10s")
        self.wait(lambda: self.kubectl(*established), "the CustomResourceDefinitions")

    def load_image(self, archive: Path) -> None:
        """Make an image available on the nodes; fake nodes need none."""

    def audited(self) -> list[dict[str, Any]]:
        """What ServiceAccounts have asked of the API server so far."""
        log = self.folder / "audit.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def writes(self, *, apart_from: Sequence[str] = ("leases", "events")) -> int:
        """Write requests that the API server has seen so far, all users together, without some resources."""
        total = 0.0
        for line in self.kubectl("get", "--raw", "/metrics").splitlines():
            if line.startswith("apiserver_request_total{"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                if labels["verb"] in _WRITES and labels["resource"] not in apart_from:
                    total += float(line.rpartition(" ")[2])
        return int(total)

    # --- start --------------------------------------------------------------------------------------------------------

    def _located(self) -> None:
        """The claim has been taken, so addresses and names are known."""

    def _start(self) -> None:
        self.port, etcd_port, etcd_peer = self._ports()
        self._certificates()
        etcd = f"http://127.0.0.1:{etcd_port}"
        self.processes.start(
            "etcd",
            self.programs["etcd"],
            *("--data-dir", self.folder / "etcd", "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
            *("--listen-peer-urls", f"http://127.0.0.1:{etcd_peer}"),
        )
        self.processes.start("apiserver", self.programs["kube-apiserver"], *self._apiserver(etcd))
        self.wait(lambda: self.kubectl("get", "--raw", "/readyz") == "ok", "the API server to be ready")
        self._controllers()
        if self._kwok_nodes:
            self._kwok()
        self.wait(lambda: "default" in self.kubectl("get", "serviceaccounts"), "the default ServiceAccount")

    def _ports(self) -> tuple[int, int, int]:
        return free_port(), free_port(), free_port()

    def _hosts(self) -> list[str]:
        """Names and addresses under which the API server is reached."""
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        return ["127.0.0.1", self.host, "10.96.0.1", *names, "kubernetes.default.svc.cluster.local"]

    def _certificates(self) -> None:
        self.pki = Authority(self.folder / "pki")
        self.pki.issue("apiserver", "kube-apiserver", hosts=self._hosts())
        self.pki.issue("admin", "admin", groups=["system:masters"])
        self.pki.issue("kwok", "kwok", groups=["system:masters"])
        self.pki.issue("kube-controller-manager", "system:kube-controller-manager")
        self.pki.issue("kube-scheduler", "system:kube-scheduler")
        self.pki.issue("service-accounts", "service-accounts")
        self.pki.issue("front-proxy", "front-proxy")
        for user in ("admin", "kwok", "kube-controller-manager", "kube-scheduler"):
            self.pki.kubeconfig(self.folder / f"{user}.kubeconfig", self._server(user), user)

    def _server(self, user: str) -> str:
        host = self.host if user == "admin" else "127.0.0.1"
        return f"https://{host}:{self.port}"

    def _apiserver(self, etcd: str) -> list[str | Path]:
        pki = self.pki.folder
        options: list[str | Path] = [
            f"--etcd-servers={etcd}",
            f"--secure-port={self.port}",
            *self._addresses(),
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--client-ca-file={pki}/ca.crt",
            f"--service-account-key-file={pki}/service-accounts.key",
            f"--service-account-signing-key-file={pki}/service-accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICES}",
            # Who asks is passed on to APIs that others serve.
            f"--proxy-client-cert-file={pki}/front-proxy.crt",
            f"--proxy-client-key-file={pki}/front-proxy.key",
            f"--requestheader-client-ca-file={pki}/ca.crt",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/admin.crt",
            f"--kubelet-client-key={pki}/admin.key",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
        ]
        if self._audit:
            policy = self.folder / "audit-policy.json"
            policy.write_text(json.dumps(AUDIT_POLICY))
            options += [f"--audit-policy-file={policy}", f"--audit-log-path={self.folder}/audit.log"]
        return [*options, *self._more]

    def _addresses(self) -> Sequence[str]:
        # Endpoints must not be loopback addresses, and nothing inside needs to find the API server.
        return ["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"]

    def _controllers(self) -> None:
        rates = ("--kube-api-qps=1000", "--kube-api-burst=2000", "--leader-elect=false")
        kcm = self.folder / "kube-controller-manager.kubeconfig"
        self.processes.start(
            "kube-controller-manager",
            self.programs["kube-controller-manager"],
            *(f"--kubeconfig={kcm}", f"--authentication-kubeconfig={kcm}", f"--authorization-kubeconfig={kcm}"),
            f"--service-account-private-key-file={self.pki.folder}/service-accounts.key",
            f"--root-ca-file={self.pki.certificate}",
            "--use-service-account-credentials",
            f"--secure-port={self._secure_port()}",
            *rates,
        )
        self.processes.start(
            "kube-scheduler",
            self.programs["kube-scheduler"],
            f"--kubeconfig={self.folder / 'kube-scheduler.kubeconfig'}",
            f"--secure-port={self._secure_port()}",
            *rates,
        )

    def _secure_port(self) -> int:
        return free_port()

    def _kwok(self) -> None:
        self.kubectl("apply", "-f", str(Path(__file__).with_name("kwok_policy.yaml")))
        self.processes.start(
            "kwok",
            self.programs["kwok"],
            *(
                "--kubeconfig",
                self.folder / "kwok.kubeconfig",
                "--manage-all-nodes=true",
                "--server-address",
                f"127.0.0.1:{free_port()}",
            ),
            *("--node-lease-duration-seconds", "40", "--config", Path(__file__).with_name("kwok.yaml")),
        )
        resources = {"cpu": "10k", "memory": "10Ti", "pods": "10k"}
        nodes = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": f"kwok-{n}", "labels": {"kubernetes.io/os": "linux"}},
                "status": {"allocatable": resources, "capacity": resources},
            }
            for n in range(self._kwok_nodes)
        ]
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
        self.wait(lambda: self.kubectl("get", "nodes").count(" Ready") == self._kwok_nodes, "the fake nodes")

    def wait(self, holds: Callable[[], object], what: str) -> None:
        """Wait until ``holds``; fails at once when a process of the cluster has ended."""
        deadline = time.monotonic() + START_SECONDS
        last = ""
        while time.monotonic() < deadline:
            self.processes.check()
            try:
                if holds():
                    return
            except subprocess.CalledProcessError as error:
                last = error.stderr
            time.sleep(0.2)
        raise TimeoutError(f"waited {START_SECONDS:.0f} s for {what}: {last}")
