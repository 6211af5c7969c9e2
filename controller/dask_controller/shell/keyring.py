"""The operator's own key, and those of clusters: derived from it, never read, and put where their Pods find them.

Nothing is kept but the Secret in the operator's namespace: any replica derives the same keys. Whether the Secret of a
cluster is still there is found out by creating it again, as the operator has no right to look.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import secrets

from dask_crds.model import DaskCluster
from dask_crds.names import MASTER_SECRET
from dask_resources.security import cluster_secret, control_key

from ..core.questions import readable
from ..core.signing import Signing
from ..kube.api import NAMESPACE_TERMINATING, ApiError, Manifest
from ..kube.client import Kubernetes
from ..schedulers.signing import Key

logger = logging.getLogger(__name__)

#: Entries of the operator's own Secret; `previous` is an earlier `key`, by which clusters may still go.
MASTER_KEY, MASTER_PREVIOUS = "key", "previous"
MASTER_BYTES = 32
#: Seconds for which the Secret of a cluster is believed to be there, and a refusal to make one to last: less than
#: between two looks at every cluster, so that each of them finds out.
BELIEVED_SECONDS = 300.0
#: Reason of an outcome: the Secret of a cluster was refused, and the cluster is to go on without.
KEY_REFUSED = "KeyRefused"


class Keyring:
    """The keys of clusters.

    Args:
        namespace: the operator's own; ``None`` where it runs outside of a cluster, without a key.
    """

    def __init__(self, namespace: str | None = None) -> None:
        self._namespace = namespace
        self._masters: tuple[bytes, ...] = ()
        self._lacking = "the operator runs outside of a cluster"  #: why there is no key
        self._there: dict[str, float] = {}  # Secrets by the uid of their cluster, and until when that is believed
        self._refused: dict[str, tuple[float, str]] = {}  # namespaces, likewise, and why

    async def load(self, kubernetes: Kubernetes) -> None:
        """Read the operator's own key, which is made if there is none; call it now and then, as it may be renewed.

        Raises:
            ApiError: the API server did not let us, for a reason that passes.
        """
        if self._namespace is None:
            return
        try:
            await self._load(kubernetes, self._namespace)
        except ApiError as error:
            if error.status != 403:
                raise
            self._lack(f"the operator may not keep a key: {readable(error.message)}")

    async def _load(self, kubernetes: Kubernetes, namespace: str) -> None:
        found = await kubernetes.get("Secret", namespace, MASTER_SECRET)
        if found is None:
            # One that is lost while we run is put back: by another one we would know no scheduler.
            kept = self._masters or (secrets.token_bytes(MASTER_BYTES),)
            try:
                found = await kubernetes.create(_master(namespace, kept))
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                found = await kubernetes.get("Secret", namespace, MASTER_SECRET) or {}
        data = found.get("data") or {}
        masters = [_decoded(data[entry]) for entry in (MASTER_KEY, MASTER_PREVIOUS) if entry in data]
        if MASTER_KEY not in data or any(len(each) < MASTER_BYTES for each in masters):
            entries = f"{MASTER_KEY}, and {MASTER_PREVIOUS} if there is one, must have {MASTER_BYTES} bytes or more"
            self._lack(f"in Secret {namespace}/{MASTER_SECRET} {entries}")
            return
        self._masters, self._lacking = tuple(masters), ""

    def _lack(self, why: str) -> None:
        """There is no key; one that was there is kept in mind, as schedulers go by it."""
        if self._masters:
            logger.warning("after a restart no scheduler will be known: %s", why)
        elif why != self._lacking:
            logger.warning("schedulers are given orders unsigned: %s", why)
            self._lacking = why

    def keys(self, cluster_uid: str) -> tuple[Key, ...]:
        """Those that a cluster may have, the likeliest first; empty if there is none."""
        return tuple(Key(control_key(master, cluster_uid)) for master in self._masters)

    def signing(self, cluster: DaskCluster) -> Signing:
        """How it stands with the key of a cluster."""
        if self._lacking:
            return Signing(refused=self._lacking, known=False, ensured=False)
        now = asyncio.get_running_loop().time()
        until, why = self._refused.get(cluster.namespace, (0.0, ""))
        return Signing(refused=why if until > now else "", ensured=self._there.get(cluster.uid, 0.0) > now)

    async def put(self, kubernetes: Kubernetes, cluster: DaskCluster) -> None:
        """See to it that the Secret of a cluster is there.

        Raises:
            ApiError: with reason `KEY_REFUSED` if the operator may not make it.
        """
        if not self._masters:
            raise ApiError(403, KEY_REFUSED, self._lacking)
        until = asyncio.get_running_loop().time() + BELIEVED_SECONDS
        try:
            await kubernetes.create(cluster_secret(cluster, control_key(self._masters[0], cluster.uid)))
        except ApiError as error:
            if error.status == 403 and error.reason != NAMESPACE_TERMINATING:
                self._refused[cluster.namespace] = (until, readable(error.message))
                raise ApiError(403, KEY_REFUSED, error.message) from error
            if error.reason != "AlreadyExists":
                raise
        self._there[cluster.uid] = until

    def forget(self, cluster_uid: str) -> None:
        """A cluster is gone."""
        self._there.pop(cluster_uid, None)


def _master(namespace: str, masters: tuple[bytes, ...]) -> Manifest:
    entries = zip((MASTER_KEY, MASTER_PREVIOUS), masters, strict=False)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": MASTER_SECRET, "namespace": namespace},
        "type": "Opaque",
        "data": {entry: base64.b64encode(master).decode() for entry, master in entries},
    }


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
