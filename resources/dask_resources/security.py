"""What a cluster keeps to itself: the key of its control port, its certificates, and how its Pods come by them.

See ``docs/decisions/0013-control-port.md`` and ``docs/decisions/0014-tls.md``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from dask_crds import names
from dask_crds.model import DaskCluster, Security
from dask_crds.names import Label

from .metadata import child_metadata
from .pod import main_container, with_environment, with_volume
from .revision import revision

#: The key's entry in the operator's Secret for a cluster.
CONTROL_KEY = "control.key"
#: Where Pods find it.
MOUNT_PATH = "/etc/dask-gitops-security"
KEY_FILE = f"{MOUNT_PATH}/{CONTROL_KEY}"

#: Entries of a Secret with certificates, as cert-manager calls them, and where Pods find them.
CA, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"
TLS_PATH = "/etc/dask-gitops-tls"
_TLS_VOLUME = "dask-gitops-tls"
_COMM = "DASK_DISTRIBUTED__COMM__"
_ROLES = ("SCHEDULER", "WORKER", "CLIENT")


def control_key(master: bytes, cluster_uid: str) -> bytes:
    """The key of a cluster, 32 bytes: from the operator's own and what no other cluster has."""
    return hmac.new(master, b"dask-gitops control\n" + cluster_uid.encode(), hashlib.sha256).digest()


def cluster_secret(cluster: DaskCluster, key: bytes, certificates: Mapping[str, bytes] = {}) -> dict[str, Any]:
    """Secret with the key of a cluster, and with its certificates where these are the operator's to make.

    It can be created and nothing else: the operator has no right to read it, so its name says for which cluster it is.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": child_metadata(
            cluster, names.security(cluster.name, cluster.uid), labels={Label.CLUSTER: cluster.name}
        ),
        "type": "Opaque",
        "data": {
            name: base64.b64encode(content).decode() for name, content in {CONTROL_KEY: key, **certificates}.items()
        },
    }


def volume(secret: str) -> dict[str, Any]:
    """The source of a volume with it. A Pod starts without it, too: the kubelet adds it as soon as it is there."""
    return {"secret": {"secretName": secret, "optional": True}}


# --- TLS --------------------------------------------------------------------------------------------------------------


def tls_secret(cluster: str, uid: str, security: Security | None) -> str:
    """Name of the Secret with the certificates of a cluster; empty where it speaks plain TCP."""
    tls = security.tls if security else None
    if tls is None:
        return ""
    return tls.secret_name or names.security(cluster, uid)


def secured_revision(template: Any, certificates: str) -> str:
    """Revision of a template whose Pods speak TLS; without TLS that of the template alone."""
    return revision([template, {"tls": certificates}] if certificates else template)


def is_generated(cluster: DaskCluster) -> bool:
    """Whether its certificates are the operator's to make."""
    security = cluster.spec.security
    return security is not None and security.tls is not None and security.tls.mode == "Generated"


def certificates_of(cluster: DaskCluster) -> str:
    """Name of the Secret with its certificates; empty where it speaks plain TCP."""
    return tls_secret(cluster.name, cluster.uid, cluster.spec.security)


def with_tls(spec: dict[str, Any], component: str, secret: str, *, required: bool) -> dict[str, Any]:
    """A PodSpec whose main container speaks TLS, by nothing but variables and files.

    What its user says of a variable counts more. The Pod does not start before the Secret is there.

    Args:
        spec: PodSpec.
        component: what it is of.
        secret: name of the Secret with the certificates; empty: the PodSpec stays as it is.
        required: whether to have no plain connections; not of schedulers, or they would refuse their own loopback.
    """
    if not secret:
        return spec
    files = {"CERT": CERTIFICATE, "KEY": KEY}
    environment = {
        f"{_COMM}DEFAULT_SCHEME": "tls",
        f"{_COMM}TLS__CA_FILE": f"{TLS_PATH}/{CA}",
        **{f"{_COMM}TLS__{role}__{what}": f"{TLS_PATH}/{file}" for role in _ROLES for what, file in files.items()},
        **({f"{_COMM}REQUIRE_ENCRYPTION": "True"} if required else {}),
    }
    main = main_container(spec, component)
    told = {c["name"]: c for c in with_environment(spec, environment)["containers"]}
    spec = {**spec, "containers": [told[main] if c["name"] == main else c for c in spec["containers"]]}
    source = {
        "secret": {"secretName": secret, "items": [{"key": each, "path": each} for each in (CA, *files.values())]}
    }
    return with_volume(spec, main, name=_TLS_VOLUME, source=source, path=TLS_PATH)
