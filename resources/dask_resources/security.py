"""The Secret of a cluster, with the key by which its operator, scheduler and workers know one another.

See ``docs/decisions/0013-control-port.md``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from dask_crds import names
from dask_crds.model import DaskCluster
from dask_crds.names import Label

from .metadata import child_metadata

#: The key's entry in the Secret; what else a cluster must keep to itself can stand beside it.
CONTROL_KEY = "control.key"
#: Where Pods find it.
MOUNT_PATH = "/etc/dask-gitops-security"
KEY_FILE = f"{MOUNT_PATH}/{CONTROL_KEY}"


def control_key(master: bytes, cluster_uid: str) -> bytes:
    """The key of a cluster, 32 bytes: from the operator's own and what no other cluster has."""
    return hmac.new(master, b"dask-gitops control\n" + cluster_uid.encode(), hashlib.sha256).digest()


def cluster_secret(cluster: DaskCluster, key: bytes) -> dict[str, Any]:
    """Secret with the key of a cluster.

    It can be created and nothing else: the operator has no right to read it, so its name says for which cluster it is.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": child_metadata(
            cluster, names.security(cluster.name, cluster.uid), labels={Label.CLUSTER: cluster.name}
        ),
        "type": "Opaque",
        "data": {CONTROL_KEY: base64.b64encode(key).decode()},
    }


def volume(secret: str) -> dict[str, Any]:
    """The source of a volume with it. A Pod starts without it, too: the kubelet adds it as soon as it is there."""
    return {"secret": {"secretName": secret, "optional": True}}
