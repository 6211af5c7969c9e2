"""Metrics about clusters, worker groups, jobs and autoscalers, made of what is known anyway: no read is made for them.

What a resource is like now is read from the caches when somebody asks; of jobs, which are in no cache, the last status
is kept. What happens is counted when a status is written. A series goes with its object.
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct
from prometheus_client import Histogram
from prometheus_client.registry import CollectorRegistry

from dask_crds.metrics import BUCKETS, METRICS, QUEUE_WAIT, Metric
from dask_crds.model import KINDS, DaskJob, DaskJobStatus, DaskObject, Usage
from dask_crds.model.shared import Status
from dask_crds.names import Component

from ..core import shown
from ..core.actions import Outcome
from ..core.cached_resource import CachedResource
from ..core.observed import Observed
from ..core.pod import Pod
from ..core.shown import Sample
from ..core.telling import told
from ..core.usage import used
from ..kube.exposition import family
from .accounts import Accounts
from .caches import Caches, Key
from .witness import Witness

logger = logging.getLogger(__name__)

#: How long the owner of a job's cluster may be awaited after a start: until then all jobs have been looked at.
OWNER_SECONDS = 600.0

#: The kind that a counter is about, by the label with its name; the first that is there.
_KINDS = {"workergroup": "DaskWorkerGroup", "autoscaler": "DaskAutoscaler", "cluster": "DaskCluster"}


class _Job(Struct, frozen=True):
    """What is kept of a job."""

    uid: str
    owner: str
    samples: tuple[Sample, ...]
    usage: Usage | None


class DomainMetrics(Witness):
    """What is shown of Dask, by the replica that leads and no other: there would be two of each.

    Args:
        registry: where the histograms are shown.
        caches: the watch caches.
        leading: whether this replica leads.
        owner_label: key of the annotation or label that says who a cluster or job belongs to.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        caches: Caches,
        leading: Callable[[], bool],
        owner_label: str,
        clock: Callable[[], float],
    ) -> None:
        self._caches, self._accounts = caches, Accounts(caches)
        self._leading, self._owner_label, self._clock = leading, owner_label, clock
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._owners: dict[Key, str | None] = {}  # of clusters and groups, as shown last
        self._begun: float | None = None
        self._counts: defaultdict[Metric, dict[tuple[str, ...], float]] = defaultdict(dict)
        self._histograms = {
            metric: Histogram(metric.name, metric.meaning, metric.labels, buckets=BUCKETS, registry=registry)
            for metric in METRICS
            if metric.type == "histogram"
        }
        caches.queues.on_admitted = self._admitted

    # --- what happens -------------------------------------------------------------------------------------------------

    def reported(
        self, observed: Observed, value: DaskObject, status: Status, outcomes: Sequence[Outcome], now: float
    ) -> None:
        """Keep the status of a job, and count what is new; a mistake in that is no reason not to go on."""
        try:
            self._report(observed, value, status, outcomes, now)
        except Exception:
            logger.exception("metrics of %s %s/%s", value.kind, value.namespace, value.name)

    def _report(
        self, observed: Observed, value: DaskObject, status: Status, outcomes: Sequence[Outcome], now: float
    ) -> None:
        if isinstance(value, DaskJob) and isinstance(status, DaskJobStatus):
            owner = shown.owner(value.metadata.get("labels"), value.metadata.get("annotations"), self._owner_label)
            samples = tuple(shown.job(value, status, owner))
            self._jobs[value.namespace, value.name] = _Job(value.uid, owner, samples, status.usage)
        for count in told(observed, value, status, outcomes, now):
            histogram = self._histograms.get(count.metric)
            if histogram is None:
                counts = self._counts[count.metric]
                counts[count.labels] = counts.get(count.labels, 0.0) + count.value
            else:
                (histogram.labels(*count.labels) if count.labels else histogram).observe(count.value)

    def _admitted(self, kind: str, seconds: float) -> None:
        """A Workload has been admitted; whose it says it is, is one of few."""
        if kind in KINDS and self._leading():
            self._histograms[QUEUE_WAIT].labels(kind).observe(seconds)

    def gone(self, key: Key) -> None:
        """Forget a job."""
        if key.kind == "DaskJob":
            self._jobs.pop((key.namespace, key.name), None)

    def jobs(self, namespace: str | None) -> set[Key]:
        """Those that are shown; one of which nobody has told that it is gone is still among them."""
        return {Key("DaskJob", *it) for it in self._jobs if namespace in (None, it[0])}

    # --- what is shown ------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """All but the histograms, in Prometheus' text format; to be called in the event loop's thread."""
        if not self._leading():
            return ""
        found = defaultdict[Metric, list[tuple[tuple[str, ...], float]]](list)
        for metric, labels, value in itertools.chain(self._samples(), self._counted()):
            found[metric].append((labels, value))
        return "".join(
            family(*metric[:2], metric.meaning, metric.labels, found[metric]) for metric in METRICS if metric in found
        )

    def _samples(self) -> Iterator[Sample]:
        now, caches = self._clock(), self._caches
        self._begun = now if self._begun is None else self._begun
        before, self._owners = self._owners, {}
        for found in caches.clusters.store.values():
            it = shown.shown(found.kept)
            owner = self._owner_of_cluster(found, it, before, now)
            yield from shown.cluster(it, owner or "", self._pods(found, it))
            yield from self._used(found, it, Component.SCHEDULER, found.name, owner, now)
        for found in caches.groups.store.values():
            it = shown.shown(found.kept)
            yield from shown.worker_group(it, found.cluster, self._pods(found, it))
            owner = self._owner_of_group(found, it, before)
            yield from self._used(found, it, Component.WORKER, found.cluster, owner, now)
        for found in caches.autoscalers.store.values():
            yield from shown.autoscaler(shown.shown(found.kept), found.cluster)
        for key, job in self._jobs.items():
            yield from job.samples
            stays = self._accounts.find("DaskJob", *key, job.uid)
            yield from shown.usage((*key, Component.JOB_RUNNER, key[1], job.owner), used(job.usage, stays, now))

    def _pods(self, found: CachedResource, it: shown.Shown) -> Sequence[Pod]:
        return self._accounts.pods(found.kind, found.namespace, found.name, it.metadata.uid)

    def _owner_of_cluster(
        self, found: CachedResource, it: shown.Shown, before: Mapping[Key, str | None], now: float
    ) -> str | None:
        """Its own, else its job's, which goes before it does; ``None``: nobody has told of that job since we began.

        A total that is shown for some moments as nobody's counts again, as what it has grown by from one to the next.
        """
        key = Key(found.kind, found.namespace, found.name)
        owner: str | None = it.owner(self._owner_label)
        if not owner and found.of_job:
            job = self._jobs.get((found.namespace, found.name))
            owner = job.owner if job is not None else before.get(key)
            if owner is None and self._begun is not None and now - self._begun >= OWNER_SECONDS:
                owner = ""
        self._owners[key] = owner
        return owner

    def _owner_of_group(self, found: CachedResource, it: shown.Shown, before: Mapping[Key, str | None]) -> str | None:
        """Its cluster's, also when that has gone before it, else its own."""
        key, cluster = Key(found.kind, found.namespace, found.name), Key("DaskCluster", found.namespace, found.cluster)
        owner = self._owners[cluster] if cluster in self._owners else before.get(key, "")
        self._owners[key] = owner = owner if owner is None else owner or it.owner(self._owner_label)
        return owner

    def _used(
        self, found: CachedResource, it: shown.Shown, component: str, cluster: str, owner: str | None, now: float
    ) -> Iterator[Sample]:
        if owner is not None:
            stays = self._accounts.find(found.kind, found.namespace, found.name, it.metadata.uid)
            who = (found.namespace, cluster, component, found.name, owner)
            yield from shown.usage(who, used(it.status.usage, stays, now))

    def _counted(self) -> Iterator[Sample]:
        """What was counted of objects that there still are; the rest is forgotten."""
        for metric, counts in self._counts.items():
            label, kind = next((label, kind) for label, kind in _KINDS.items() if label in metric.labels)
            at, informer = metric.labels.index(label), self._caches.informers[kind]
            for labels in [it for it in counts if not informer.by_index(Key(kind, it[0], it[at]))]:
                del counts[labels]
            for labels, value in counts.items():
                yield metric, labels, value
