"""Who is told what a reconcile has found, and does nothing about it."""

from __future__ import annotations

from collections.abc import Sequence

from dask_crds.model import DaskObject
from dask_crds.model.shared import Status

from ..core.actions import Outcome
from ..core.observed import Observed
from .caches import Key


class Witness:
    """Does not listen; see `DomainMetrics` for one that does. It must not raise."""

    def reported(
        self, observed: Observed, value: DaskObject, status: Status, outcomes: Sequence[Outcome], now: float
    ) -> None:
        """``status``, made of the snapshot, has taken the place of that of ``value``, or is the same."""

    def gone(self, key: Key) -> None:
        """There is no such resource any more."""
