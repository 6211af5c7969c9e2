"""A real Kubernetes node on this machine: containerd, runc, kubelet, kube-proxy, DNS, in a network of its own.

Needs root on Linux. What had to be known to make it work on small machines stands beside the setting that it explains.
Several can run at once: each has its own network namespace, folder and address, see :mod:`.claim`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from . import components, images
from .control_plane import SERVICES, ControlPlane

POD_NETWORK = "10.88.0.0/17"
NODE_IP = "10.88.255.1"


class Node(ControlPlane):
    """A cluster of one real node; a context manager.

    Args:
        audit: as in :class:`ControlPlane`.
        apiserver: as in :class:`ControlPlane`.

    Raises:
        components.Unavailable: where the machine cannot run one.
    """

    kind = "node"
    needs: ClassVar[tuple[str, ...]] = components.NODE

    def __init__(self, *, audit: bool = False, apiserver: Sequence[str] = ()) -> None:
        super().__init__(audit=audit, apiserver=apiserver)
        check_machine()
        components.ensure_packages()
        components.ensure(components.NODE)

    def run_inside(self, command: Sequence[str | Path], **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command in the node's network, where Services and Pods have addresses, with ``KUBECONFIG`` set."""
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig)}
        return subprocess.run([*self._prefix, *map(str, command)], env=environment, text=True, **options)  # type: ignore[call-overload,no-any-return]

    def load_image(self, archive: Path) -> None:
        """Import a docker-archive into the node's containerd."""
        command = [self.programs["ctr"], "-a", self.folder / "containerd.sock", "-n", "k8s.io", "images", "import"]
        done = subprocess.run(
            [*self._prefix, *map(str, command), "--local", str(archive)], text=True, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"importing {archive.name} failed: {done.stderr}")

    # --- start --------------------------------------------------------------------------------------------------------

    def _located(self) -> None:
        # A link of our own to the host: 169.254.100.0/22 in pieces of four addresses.
        network = f"169.254.{100 + self.claim.number // 64}"
        first = self.claim.number % 64 * 4
        self._gateway, self.host = f"{network}.{first + 1}", f"{network}.{first + 2}"
        # Not `ip netns exec`, which mounts another /sys and so hides the cgroups.
        self._prefix = ["nsenter", f"--net=/run/netns/{self.claim.network}"]

    def _ports(self) -> tuple[int, int, int]:
        return 6443, 2379, 2380  # nobody else is in our network namespace

    def _secure_port(self) -> int:
        return 0

    def _hosts(self) -> list[str]:
        return [*super()._hosts(), NODE_IP]

    def _addresses(self) -> Sequence[str]:
        return ["--bind-address=0.0.0.0", f"--advertise-address={NODE_IP}"]

    def _certificates(self) -> None:
        super()._certificates()
        self.pki.issue("kubelet", "system:node:node-1", groups=["system:nodes"], hosts=["node-1", NODE_IP])
        self.pki.issue("kube-proxy", "system:kube-proxy")
        for user in ("kubelet", "kube-proxy"):
            self.pki.kubeconfig(self.folder / f"{user}.kubeconfig", self._server(user), user)

    def _start(self) -> None:
        self._network()
        super()._start()
        self._containerd()
        self._kubelet()
        proxy = self.folder / "kube-proxy.kubeconfig"
        self.processes.start(
            "kube-proxy",
            self.programs["kube-proxy"],
            *(f"--kubeconfig={proxy}", "--proxy-mode=nftables", "--hostname-override=node-1"),
            *(f"--cluster-cidr={POD_NETWORK}", "--conntrack-max-per-core=0"),
        )
        self.processes.start(
            "dns",
            *(sys.executable, "-m", f"{__package__}.dns", self.programs["kubectl"], self.kubeconfig, NODE_IP),
            env={"PYTHONPATH": str(images.ROOT)},
        )
        self.wait(lambda: " Ready" in self.kubectl("get", "nodes"), "the node to be Ready")

    def _network(self) -> None:
        network, link = self.claim.network, self.claim.link
        inside = self._prefix
        for command in (
            ["ip", "netns", "add", network],
            ["ip", "link", "add", link, "type", "veth", "peer", "name", "host", "netns", network],
            ["ip", "addr", "add", f"{self._gateway}/30", "dev", link],
            ["ip", "link", "set", link, "up"],
            [*inside, "ip", "link", "set", "lo", "up"],
            [*inside, "ip", "addr", "add", f"{NODE_IP}/32", "dev", "lo"],
            [*inside, "ip", "addr", "add", f"{self.host}/30", "dev", "host"],
            [*inside, "ip", "link", "set", "host", "up"],
            # For Pods on the host's network: kube-proxy translates a Service's address after it was routed somewhere.
            [*inside, "ip", "route", "add", SERVICES, "dev", "host", "src", NODE_IP],
            [*inside, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)

    def _pod_network(self) -> None:
        """How containerd connects Pods."""
        network = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(self.folder / "cni-data"),  # else two nodes share their addresses
                        "ranges": [[{"subnet": POD_NETWORK}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "10-pods.conflist").write_text(json.dumps(network))

    def _containerd(self) -> None:
        self._pod_network()
        config = self.folder / "containerd.toml"
        config.write_text(
            f"""version = 3
root = "{self.folder}/containerd/root"
state = "{self.folder}/containerd/state"
[grpc]
address = "{self.folder}/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{images.PAUSE}"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true  # else sandboxes need CAP_SYS_RESOURCE
netns_mounts_under_state_dir = true  # else the network namespaces of Pods outlive us
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{self.folder}/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{self.programs["runc"]}"
"""
        )
        # The shim is found through PATH.
        path = f"{self.programs['containerd-shim-runc-v2'].parent}:{os.environ['PATH']}"
        self.processes.start("containerd", self.programs["containerd"], "-c", config, env={"PATH": path})
        self.wait((self.folder / "containerd.sock").exists, "containerd")
        self.wait(lambda: self._ctr("version"), "containerd to answer")
        self.load_image(images.pause_image())

    def _ctr(self, *args: str) -> bool:
        command = [str(self.programs["ctr"]), "-a", f"{self.folder}/containerd.sock", *args]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _kubelet(self) -> None:
        pki = self.pki.folder
        (self.folder / "resolv.conf").write_text(f"nameserver {NODE_IP}\n")

        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{pki}/kubelet.crt",
            "tlsPrivateKeyFile": f"{pki}/kubelet.key",
            "clusterDomain": "cluster.local",
            "clusterDNS": [NODE_IP],
            "containerRuntimeEndpoint": f"unix://{self.folder}/containerd.sock",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "failSwapOn": False,
            "maxPods": 250,
            "localStorageCapacityIsolation": False,
            "imageGCHighThresholdPercent": 100,
            "resolvConf": f"{self.folder}/resolv.conf",
            "podLogsDir": f"{self.folder}/pod-logs",
            "volumePluginDir": f"{self.folder}/volume-plugins",
        }
        (self.folder / "kubelet.json").write_text(json.dumps(config))
        self.processes.start(
            "kubelet",
            self.programs["kubelet"],
            *(f"--config={self.folder}/kubelet.json", f"--kubeconfig={self.folder}/kubelet.kubeconfig"),
            *("--hostname-override=node-1", f"--node-ip={NODE_IP}", f"--root-dir={self.folder}/kubelet", "--v=1"),
        )


def check_machine() -> None:
    """Raise components.Unavailable where no node can run."""
    if sys.platform != "linux":
        raise components.Unavailable("a real node needs Linux; set KUBECONFIG to use a cluster of yours")
    if os.geteuid() != 0:
        raise components.Unavailable("a real node needs root; set KUBECONFIG to use a cluster of yours")
