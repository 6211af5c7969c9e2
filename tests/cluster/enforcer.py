"""NetworkPolicies of a real node, enforced by kube-network-policies of Kubernetes' SIG Network.

It judges the first packet of each connection, which the kernel hands over. Its own rule for that needs ``queue`` of
nftables (``CONFIG_NFT_QUEUE``), which not every kernel has; the same by iptables is here. Where both work, a packet is
judged twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import components
from .node import NODE_IP, POD_NETWORK, Node

PROGRAM = "kube-network-policies"
_NAMESPACE = "kube-system"
_READS = "pods,namespaces,networkpolicies.networking.k8s.io"
_QUEUE = ("-m", "conntrack", "--ctstate", "NEW", "-j", "NFQUEUE", "--queue-num", "100")
#: All that comes from or goes to Pods, but for probes and the like, which come from the node itself.
_CHAIN = "NETWORK-POLICIES"
_RULES_OF_CHAIN = (
    ("-m", "owner", "--uid-owner", "0", "-j", "RETURN"),
    ("-s", POD_NETWORK, *_QUEUE),
    ("-d", POD_NETWORK, *_QUEUE),
)
#: It knows no kubeconfig, only the place where a Pod has its ServiceAccount. /run is its own, without the socket
#: for plugins of the machine's containerd.
_START = """
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
mount --bind "$1" /run/secrets/kubernetes.io/serviceaccount
exec "$2" --hostname-override=node-1 --metrics-bind-address=127.0.0.1:9080
"""


@contextmanager
def network_policies(node: Node) -> Iterator[None]:
    """NetworkPolicies hold on the node, for connections that begin while the context lasts.

    Raises:
        components.Unavailable: it cannot be built, or the kernel lacks what it needs.
    """
    program = components.ensure([PROGRAM])[PROGRAM]
    account = _account(node)
    environment = {"KUBERNETES_SERVICE_HOST": NODE_IP, "KUBERNETES_SERVICE_PORT": str(node.port)}
    command = ("unshare", "--mount", "sh", "-e", "-c", _START, "sh", account, program)
    try:
        _iptables(node, "-N", _CHAIN)
        for rule in _RULES_OF_CHAIN:
            _iptables(node, "-A", _CHAIN, *rule)
        node.processes.start(PROGRAM, *command, env=environment)
        node.wait(lambda: _listens(node), f"{PROGRAM} to listen")
        _iptables(node, "-A", "POSTROUTING", "-j", _CHAIN)
        yield
    finally:
        for last in (("-D", "POSTROUTING", "-j", _CHAIN), ("-F", _CHAIN), ("-X", _CHAIN)):
            _iptables(node, *last, check=False)
        node.processes.stop(PROGRAM)


def _account(node: Node) -> Path:
    """A folder as a Pod has it of its ServiceAccount, which may read what there is to know."""
    node.kubectl("-n", _NAMESPACE, "create", "serviceaccount", PROGRAM)
    node.kubectl("create", "clusterrole", PROGRAM, "--verb=get,list,watch", f"--resource={_READS}")
    subject = f"--serviceaccount={_NAMESPACE}:{PROGRAM}"
    node.kubectl("create", "clusterrolebinding", PROGRAM, f"--clusterrole={PROGRAM}", subject)
    folder = node.folder / PROGRAM
    folder.mkdir()
    (folder / "token").write_text(node.kubectl("-n", _NAMESPACE, "create", "token", PROGRAM, "--duration=24h").strip())
    (folder / "ca.crt").write_bytes(node.pki.certificate.read_bytes())
    return folder


def _listens(node: Node) -> bool:
    queues = node.run_inside(["cat", "/proc/net/netfilter/nfnetlink_queue"], capture_output=True, check=False)
    return queues.stdout.split()[:1] == ["100"]


def _iptables(node: Node, *rule: str, check: bool = True) -> None:
    done = node.run_inside(["iptables", "-w", "-t", "mangle", *rule], capture_output=True, check=False)
    if check and done.returncode:
        raise components.Unavailable(f"`iptables -t mangle {' '.join(rule)}` failed: {done.stderr}")
