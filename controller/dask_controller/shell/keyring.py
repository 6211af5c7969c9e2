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
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from dask_crds import names
from dask_crds.model import Certificate, DaskCluster
from dask_crds.names import MASTER_SECRET
from dask_resources.security import cluster_secret, control_key, is_generated

from ..core.certificate_life import life_until
from ..core.questions import readable
from ..core.signing import Signing
from ..core.time import created, parse_time
from ..kube.api import NAMESPACE_TERMINATING, ApiError, Manifest
from ..kube.client import Kubernetes
from ..schedulers.signing import Key

if TYPE_CHECKING:
    from ..core.certificates import Authority

logger = logging.getLogger(__name__)

#: Entries of the operator's own Secret; `previous` is an earlier `key`, by which clusters may still go.
MASTER_KEY, MASTER_PREVIOUS = "key", "previous"
MASTER_BYTES = 32
#: Seconds for which the Secret of a cluster is believed to be there, and a refusal to make one to last: less than
#: between two looks at every cluster, so that each of them finds out.
BELIEVED_SECONDS = 300.0
#: Reason of an outcome: the Secret of a cluster was refused, and the cluster is to go on without.
KEY_REFUSED = "KeyRefused"


class _Put(NamedTuple):
    """A Secret that was put."""

    until: float  #: when that is not believed any more
    certificate: Certificate | None = None  #: that it holds


class Keyring:
    """The keys of clusters.

    Args:
        namespace: the operator's own; ``None`` where it runs outside of a cluster, without a key.
    """

    def __init__(self, namespace: str | None = None) -> None:
        self._namespace = namespace
        self._masters: tuple[bytes, ...] = ()
        self._lacking = "the operator runs outside of a cluster"  #: why there is no key
        self._there: dict[str, _Put] = {}  # Secrets by the uid of their cluster
        self._authorities: dict[str, tuple[tuple[bytes, ...], dict[str, Authority]]] = {}  # likewise, and made of what
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
        there = self._there.get(cluster.uid, _Put(0.0))
        return Signing(
            refused=why if until > now else "",
            ensured=there.until > now,
            certificate=there.certificate,
            authorities=tuple(self._of(cluster)) if is_generated(cluster) else (),
        )

    def _of(self, cluster: DaskCluster) -> Mapping[str, Authority]:
        """The CAs of a cluster by their fingerprints, that of the present key first."""
        masters, found = self._authorities.get(cluster.uid, ((), {}))
        if masters != self._masters:
            # It takes as much memory as all else that a small operator needs.
            from ..core.certificates import Authority

            made = [Authority(master, cluster.uid, created(cluster.metadata)) for master in self._masters]
            found = {authority.fingerprint: authority for authority in made}
            self._authorities[cluster.uid] = self._masters, found
        return found

    def _files(self, cluster: DaskCluster, certificate: Certificate) -> Mapping[str, bytes]:
        """The entries of a Secret with a certificate."""
        end, name = parse_time(certificate.not_after), names.scheduler(cluster.name)
        hosts = [name, f"{name}.{cluster.namespace}", f"{name}.{cluster.namespace}.svc"]
        return self._of(cluster)[certificate.authority].files(life_until(end), hosts)

    async def put(
        self,
        kubernetes: Kubernetes,
        cluster: DaskCluster,
        certificate: Certificate | None = None,
        *,
        renew: bool = False,
    ) -> None:
        """See to it that the Secret of a cluster is there.

        One that is to be renewed is deleted first: to change it takes a right by which it could be read. Pods keep
        what they have meanwhile, and one that starts waits for a second.

        Args:
            kubernetes: the client.
            cluster: whose it is.
            certificate: what it holds besides the key; of a CA that `signing` has named.
            renew: whether what is there is to be replaced.

        Raises:
            ApiError: with reason `KEY_REFUSED` if the operator may not make it.
        """
        if not self._masters:
            raise ApiError(403, KEY_REFUSED, self._lacking)
        until = asyncio.get_running_loop().time() + BELIEVED_SECONDS
        files = self._files(cluster, certificate) if certificate is not None else {}
        secret = cluster_secret(cluster, control_key(self._masters[0], cluster.uid), files)
        if renew:
            await kubernetes.delete("Secret", cluster.namespace, secret["metadata"]["name"])
        try:
            await kubernetes.create(secret)
        except ApiError as error:
            if error.status == 403 and error.reason != NAMESPACE_TERMINATING:
                self._refused[cluster.namespace] = (until, readable(error.message))
                raise ApiError(403, KEY_REFUSED, error.message) from error
            if error.reason != "AlreadyExists" or renew:
                raise
        self._there[cluster.uid] = _Put(until, certificate)

    def forget(self, cluster_uid: str) -> None:
        """A cluster is gone."""
        self._there.pop(cluster_uid, None)
        self._authorities.pop(cluster_uid, None)


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
