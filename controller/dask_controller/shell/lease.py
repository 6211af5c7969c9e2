"""Leader election on a Lease, by the rules of client-go's ``leaderelection``.

The time of the other candidate is never trusted: a lease counts as expired when its record has not changed for its
whole duration by our own clock. Taking it is a compare-and-swap on ``resourceVersion``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from .kubernetes import ApiError, Kubernetes

logger = logging.getLogger(__name__)


class Lease:
    """A Lease that at most one process holds.

    Args:
        kubernetes: the client.
        namespace: of the Lease.
        name: of the Lease.
        identity: of this process, unique among the candidates.
        duration: seconds after which others may take it if it was not renewed.
        renew_deadline: seconds after which a holder that could not renew it gives up.
        retry: seconds between attempts.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry: float = 2.0,
    ) -> None:
        self._kubernetes = kubernetes
        self._namespace, self._name, self._identity = namespace, name, identity
        self._duration, self._renew_deadline, self._retry = duration, renew_deadline, retry
        self._seen: tuple[Any, Any] | None = None
        self._seen_at = 0.0
        self.held = False

    async def acquire(self) -> None:
        """Wait until the lease is ours."""
        while not await self._attempt():  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(self._retry)
        self.held = True
        logger.info("leading as %s", self._identity)

    async def keep(self) -> None:
        """Renew the lease; returns when it is lost, and the process must then stop acting at once."""
        renewed = time.monotonic()
        while time.monotonic() - renewed < self._renew_deadline:
            await asyncio.sleep(self._retry)
            if await self._attempt():
                renewed = time.monotonic()
        self.held = False

    async def release(self) -> None:
        """Give the lease back, so that a successor need not wait for it to expire."""
        if not self.held:
            return
        self.held = False
        lease = await self._kubernetes.get("Lease", self._namespace, self._name)
        if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            await self._kubernetes.replace(lease)

    async def _attempt(self) -> bool:
        """Try once to take or renew the lease."""
        try:
            async with asyncio.timeout(self._renew_deadline):
                return await self._take()
        except (ApiError, TimeoutError) as error:
            if not isinstance(error, ApiError) or error.status != 409:
                logger.warning("lease %s/%s: %s", self._namespace, self._name, error)
            return False

    async def _take(self) -> bool:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        lease = await self._kubernetes.get("Lease", self._namespace, self._name)
        if lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            manifest = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._kubernetes.create(manifest)
            return True
        held = lease["spec"]
        holder, record = held.get("holderIdentity"), (held.get("holderIdentity"), held.get("renewTime"))
        if record != self._seen:
            self._seen, self._seen_at = record, time.monotonic()
        if holder == self._identity:
            spec |= {"acquireTime": held.get("acquireTime"), "leaseTransitions": held.get("leaseTransitions", 0)}
        else:
            if holder and time.monotonic() - self._seen_at < (held.get("leaseDurationSeconds") or self._duration):
                return False
            spec["leaseTransitions"] = held.get("leaseTransitions", 0) + 1
        await self._kubernetes.replace({**lease, "spec": spec})
        return True
