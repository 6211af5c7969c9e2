"""What was read of a namespace, and what belongs to what in it."""

from __future__ import annotations

from dataclasses import dataclass

from dask_crds import names
from dask_crds.names import Component, Label

from .facts import Manifest, belongs_to, controller, label, name_of, namespace_of, text, uid_of


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Objects as the API server gave them."""

    clusters: tuple[Manifest, ...] = ()
    groups: tuple[Manifest, ...] = ()
    jobs: tuple[Manifest, ...] = ()
    autoscalers: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    events: tuple[Manifest, ...] = ()
    quotas: tuple[Manifest, ...] = ()
    workloads: tuple[Manifest, ...] = ()  #: of Kueue, where it is installed
    unread: tuple[str, ...] = ()  #: what could not be read for want of a right, as the right that is missing

    def by_namespace(self) -> dict[str, Seen]:
        """The part in each namespace that has one."""
        parts: dict[str, dict[str, list[Manifest]]] = {}
        for kind in ("clusters", "groups", "jobs", "autoscalers", "pods", "events", "quotas", "workloads"):
            for it in getattr(self, kind):
                parts.setdefault(namespace_of(it), {}).setdefault(kind, []).append(it)
        return {
            namespace: Seen(unread=self.unread, **{kind: tuple(objects) for kind, objects in part.items()})
            for namespace, part in parts.items()
        }

    def cluster_of(self, job: Manifest) -> Manifest | None:
        """The cluster of a job's run."""
        return next((c for c in self.clusters if belongs_to(c, job)), None)

    def cluster_named(self, name: str) -> Manifest | None:
        """The cluster that others refer to by name."""
        return next((c for c in self.clusters if name_of(c) == name), None)

    def groups_of(self, cluster: Manifest) -> list[Manifest]:
        """Its worker groups, the default one first. ``spec.cluster`` says it, which nobody can change."""
        found = [g for g in self.groups if text(g, "spec", "cluster") == name_of(cluster)]
        return sorted(found, key=lambda g: (name_of(g) != names.default_group(name_of(cluster)), name_of(g)))

    def autoscalers_of(self, cluster: Manifest) -> list[Manifest]:
        """Those that set the size of its groups."""
        return [a for a in self.autoscalers if text(a, "spec", "cluster") == name_of(cluster)]

    def autoscaler_of(self, group: Manifest) -> Manifest | None:
        """The one that sets the size of a group, as its status says."""
        return next((a for a in self.autoscalers if name_of(a) == text(group, "status", "autoscaler")), None)

    def scheduler_pods(self, cluster: Manifest) -> list[Manifest]:
        """Pods of the Deployment of its scheduler, the newest first.

        Who may not read ReplicaSets tells them by the name that the Deployment gives its own.
        """
        prefix = f"{names.scheduler(name_of(cluster))}-"
        found = [
            pod
            for pod in self.pods
            if label(pod, Label.CLUSTER) == name_of(cluster)
            and label(pod, Label.COMPONENT) == Component.SCHEDULER
            and text(controller(pod), "kind") == "ReplicaSet"
            and text(controller(pod), "name").startswith(prefix)
        ]
        return sorted(found, key=_created, reverse=True)

    def workers(self, group: Manifest) -> list[Manifest]:
        """Pods of a group."""
        return sorted((pod for pod in self.pods if belongs_to(pod, group)), key=_place)

    def runner_pods(self, job: Manifest) -> list[Manifest]:
        """Pods of the runner of a job, the newest first."""
        name = names.runner(name_of(job))
        found = [
            pod
            for pod in self.pods
            if label(pod, Label.COMPONENT) == Component.JOB_RUNNER
            and text(controller(pod), "kind") == "Job"
            and text(controller(pod), "name") == name
        ]
        return sorted(found, key=_created, reverse=True)

    def events_of(self, about: Manifest, *reasons: str) -> list[Manifest]:
        """Events about an object with one of some reasons, the latest first."""
        found = [
            event
            for event in self.events
            if event.get("reason") in reasons and text(event, "involvedObject", "uid") == uid_of(about)
        ]
        return sorted(found, key=_last, reverse=True)


def _created(manifest: Manifest) -> str:
    return text(manifest, "metadata", "creationTimestamp")


def _last(event: Manifest) -> str:
    return text(event, "lastTimestamp") or text(event, "eventTime") or _created(event)


def _place(pod: Manifest) -> tuple[str, int]:
    """By number: worker 10 comes after worker 9."""
    head, _, tail = name_of(pod).rpartition("-")
    return (head, int(tail)) if tail.isdecimal() and len(tail) < 10 else (name_of(pod), 0)
