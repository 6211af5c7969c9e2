"""Leader election on a Lease, by the rules of client-go's ``leaderelection``.

Clocks are never compared: a candidate waits until the holder's record has not changed for the duration stated in it,
measured on its own clock, and every write is a compare-and-swap by ``resourceVersion``. A leader that cannot renew
gives up after ``renew_seconds``, that is before others may think that its lease has run out.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime

from .api import ApiError, Manifest
from .client import Kubernetes

logger = logging.getLogger(__name__)


class LeaseLost(Exception):
    """We are not the leader any more, and must not act as one: end the process."""


class Lease:
    """Our candidacy for a Lease, which is created if need be.

    Args:
        kubernetes: the client.
        namespace: where the Lease is.
        name: of the Lease.
        identity: who we are; must differ between any two processes, also between a Pod's container and its successor.
        duration_seconds: how long others wait before they take over from a silent leader.
        renew_seconds: how long a leader tries to renew before it gives up; less than the duration.
        retry_seconds: pause between two attempts.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration_seconds: int = 15,
        renew_seconds: float = 10.0,
        retry_seconds: float = 2.0,
    ) -> None:
        if not retry_seconds < renew_seconds < duration_seconds:
            raise ValueError("it must be retry < renew < duration")
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration_seconds
        self._renew = renew_seconds
        self._retry = retry_seconds
        self._version: str | None = None  # of our last write, if the Lease is ours as far as we know
        self._renewed_at = float("-inf")
        self._rival: Manifest = {}  # what another holder wrote last,
        self._rival_since = 0.0  # and when we first saw it
        self._writing = asyncio.Lock()
        self._released = False

    @property
    def held(self) -> bool:
        """Whether we are the leader for certain, even if `keep` has had no time to notice a loss."""
        return _now() < self._renewed_at + self._renew

    async def acquire(self) -> None:
        """Return when we are the leader; failures are logged and tried again."""
        while not await self._attempt(self._renew / 2):  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(self._retry * random.uniform(1.0, 1.2))
        logger.info("leading as %s", self._identity)

    async def keep(self) -> None:
        """Renew until cancelled, or until `release`; then do nothing.

        Raises:
            LeaseLost: another took the Lease, or it could not be renewed in time.
        """
        while not self._released:
            await asyncio.sleep(self._retry)
            remaining = self._renewed_at + self._renew - _now()
            await self._attempt(min(remaining, self._renew / 2))  # one request that hangs is not the last
            if not self.held and not self._released:
                raise LeaseLost(f"the lease {self._namespace}/{self._name} is lost")
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Let another take over at once, if we are the leader. Act no more when you call this."""
        self._released, self._renewed_at = True, float("-inf")
        async with self._writing:
            if self._version is None:
                return
            spec = {"holderIdentity": None, "leaseDurationSeconds": 1, "renewTime": _timestamp()}
            try:
                async with asyncio.timeout(self._renew / 2):
                    await self._write(self._version, spec)
            except (ApiError, TimeoutError) as error:
                logger.info("the lease was not released and will run out: %r", error)
            self._version = None

    async def _attempt(self, timeout_seconds: float) -> bool:
        """Try to get or to renew the Lease; whether that worked."""
        asked_at = _now()  # others count from the write, which is later
        try:
            async with self._writing, asyncio.timeout(timeout_seconds):
                if self._released:
                    return False
                self._version = await (self._acquire_once() if self._version is None else self._renew_once())
        except (ApiError, TimeoutError) as error:  # whether it was written or not: the next attempt will see
            logger.warning("no answer about the lease: %r", error)
            return False
        self._renewed_at = asked_at if self._version and not self._released else float("-inf")
        return self._version is not None

    async def _renew_once(self) -> str | None:
        """Without reading it first, as nobody should have changed it. Returns the new version."""
        assert self._version is not None
        try:
            return await self._write(self._version, {"renewTime": _timestamp()})
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return await self._acquire_once()

    async def _acquire_once(self) -> str | None:
        """Take the Lease if it is free, ours or has run out. Returns its version, ``None`` if it is not ours."""
        now = _timestamp()
        ours = {"holderIdentity": self._identity, "leaseDurationSeconds": self._duration, "renewTime": now}
        lease = await self._kubernetes.get("Lease", self._namespace, self._name)
        try:
            if lease is None:
                return _version(await self._kubernetes.create(self._manifest({**ours, "acquireTime": now})))
            spec = lease.get("spec") or {}
            if spec.get("holderIdentity") != self._identity:
                if not self._free(spec):
                    return None
                ours |= {"acquireTime": now, "leaseTransitions": (spec.get("leaseTransitions") or 0) + 1}
            return await self._write(_version(lease), ours)
        except ApiError as error:
            if error.status == 409:  # another was faster
                return None
            raise

    def _free(self, spec: Manifest) -> bool:
        """Whether nobody holds the Lease, or its holder has been silent for as long as it promised not to be."""
        if not spec.get("holderIdentity"):
            return True
        now = _now()
        if spec != self._rival:
            self._rival, self._rival_since = spec, now
        return now >= self._rival_since + (spec.get("leaseDurationSeconds") or self._duration)

    async def _write(self, version: str, spec: Manifest) -> str:
        """Compare-and-swap: 409 if ``version`` is not the current one. Returns the new version."""
        patch = {"metadata": {"resourceVersion": version}, "spec": spec}
        return _version(await self._kubernetes.patch("Lease", self._namespace, self._name, patch))

    def _manifest(self, spec: Manifest) -> Manifest:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": spec,
        }


def _version(lease: Manifest) -> str:
    version: str = lease["metadata"]["resourceVersion"]
    return version


def _now() -> float:
    return asyncio.get_running_loop().time()


def _timestamp() -> str:
    """Now, for people: nobody compares it with a clock."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
