"""What the commands that change something write: what a user would write with ``kubectl``; and whose the field is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dask_crds import names
from dask_crds.names import Annotation

from .facts import Manifest, at, controller, maps, name_of, number, text

#: GitOps tools by the names under which they write.
#: https://argo-cd.readthedocs.io/en/stable/user-guide/sync-options/#server-side-apply
#: https://fluxcd.io/flux/components/kustomize/kustomizations/#controlling-the-apply-behavior-of-resources
_TOOLS = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
    "helm": "Helm",
    "Helm": "Helm",
    "fleetagent": "Fleet",
    "configsync.gke.io": "Config Sync",
    "kapp-controller": "kapp",
}
#: Those who write a manifest as a whole by other means than server-side apply.
_APPLIERS = {"kubectl-client-side-apply", *_TOOLS}


class Impossible(Exception):
    """What was asked for would change nothing, or not last; the message says what to do instead."""


@dataclass(frozen=True)
class Change:
    """One merge patch."""

    kind: str
    name: str
    patch: dict[str, Any]
    words: str  #: what it does
    subresource: str = ""
    note: str = ""  #: what its user should know: who will put it back, say


def suspend(it: Manifest, *, suspended: bool) -> Change:
    """Stop all of a cluster or job, or let it go on.

    Raises:
        Impossible: it is the cluster of a job, which decides.
    """
    kind, name = it["kind"], name_of(it)
    _not_of_a_job(it, "suspend" if suspended else "resume")
    words = f"{kind} {name} is {'suspended' if suspended else 'resumed'}"
    if (at(it, "spec", "suspend") is True) == suspended:
        words += " already"
    return Change(kind, name, {"spec": {"suspend": suspended}}, words, note=stated(it, "spec", "suspend"))


def rerun(job: Manifest, run_id: str | None) -> Change:
    """One more run of a job.

    Without ``run_id`` it is named after the generation, which grows with each change and so was never used, as Argo
    CD's action does it.

    Raises:
        Impossible: the run has that name already.
    """
    name, before = name_of(job), text(job, "spec", "runId")
    wanted = run_id if run_id is not None else f"generation-{number(job, 'metadata', 'generation')}"
    if wanted == before:
        raise Impossible(f"DaskJob {name}: spec.runId is {wanted!r} already, which runs once; give another")
    words = f"DaskJob {name} runs again, as {wanted}"
    if text(job, "status", "jobStatus") not in ("Successful", "Failed"):
        words += ", when the present run has ended"
    return Change("DaskJob", name, {"spec": {"runId": wanted}}, words, note=stated(job, "spec", "runId"))


def scale(target: Manifest, group: Manifest | None, replicas: int) -> Change:
    """Another number of workers.

    Args:
        target: the DaskCluster, for its default group, or a DaskWorkerGroup.
        group: the DaskWorkerGroup whose size it is, as far as it is there.
        replicas: number of workers.

    Raises:
        Impossible: an autoscaler, or the manifest of the cluster, sets the number.
    """
    kind, name = target["kind"], name_of(target)
    scaler = text(group, "status", "autoscaler")
    if scaler or (kind == "DaskCluster" and at(target, "spec", "autoscaler") is not None):
        raise Impossible(
            f"DaskAutoscaler {scaler or name} sets the number of workers of {name}: change its minimum and maximum, "
            "or delete it"
        )
    _not_of_a_job(target, "scale")
    words = f"{kind} {name} is to have {replicas} worker{'' if replicas == 1 else 's'}"
    note = stated(target, "spec", "worker", "replicas")
    return Change(kind, name, {"spec": {"replicas": replicas}}, words, "scale", note)


def check_stated_size(group: Manifest, cluster: Manifest | None) -> None:
    """See that a group's size is not set by its cluster's manifest.

    Raises:
        Impossible: it is.
    """
    if cluster is None:
        return
    for each in maps(cluster, "spec", "workerGroups"):
        if names.worker_group(name_of(cluster), text(each, "name")) == name_of(group) and "replicas" in each:
            raise Impossible(
                f"spec.workerGroups of DaskCluster {name_of(cluster)} states the number of workers of "
                f"{name_of(group)}: change it there"
            )


def restart(target: Manifest, when: str, *, group: str = "") -> Change:
    """New workers from the same template, as ``kubectl rollout restart`` asks for them.

    Args:
        target: a DaskCluster or DaskWorkerGroup.
        when: the time, RFC 3339.
        group: name within the cluster of a group that it states.

    Raises:
        Impossible: it is the cluster of a job, or has no such group.
    """
    kind, name = target["kind"], name_of(target)
    _not_of_a_job(target, "restart")
    annotated = {"metadata": {"annotations": {Annotation.RESTARTED_AT: when}}}
    if not group:
        return Change(kind, name, {"spec": {"worker": annotated}}, f"the workers of {kind} {name} restart")
    groups = [dict(each) for each in maps(target, "spec", "workerGroups")]
    mine = next((each for each in groups if each.get("name") == group), None)
    if mine is None:
        there = ", ".join(text(each, "name") for each in groups) or "none"
        raise Impossible(f"{kind} {name} states no group {group}; it states {there}")
    metadata = dict(mine.get("metadata") or {})
    metadata["annotations"] = {**(metadata.get("annotations") or {}), Annotation.RESTARTED_AT: when}
    mine["metadata"] = metadata
    # A merge patch replaces a list as a whole: only if nobody has changed it meanwhile.
    version = {"resourceVersion": text(target, "metadata", "resourceVersion")}
    words = f"the workers of {names.worker_group(name, group)} restart"
    return Change(kind, name, {"metadata": version, "spec": {"workerGroups": groups}}, words)


def _not_of_a_job(it: Manifest, verb: str) -> None:
    owner = controller(it)
    if it["kind"] == "DaskCluster" and owner.get("kind") == "DaskJob":
        job = text(owner, "name")
        instead = f"{verb} job/{job}" if verb in ("suspend", "resume") else "change the job's manifest"
        raise Impossible(f"DaskCluster {name_of(it)} belongs to DaskJob {job}, which puts it back: {instead}")
    if it["kind"] == "DaskWorkerGroup" and owner.get("kind") == "DaskCluster" and verb == "restart":
        cluster = text(owner, "name")
        inner = name_of(it).removeprefix(f"{cluster}-")
        how = "" if inner == names.DEFAULT_GROUP else f" --group {inner}"
        raise Impossible(
            f"DaskWorkerGroup {name_of(it)} is made by DaskCluster {cluster}, which puts it back: "
            f"restart cluster/{cluster}{how}"
        )


def stated(it: Manifest, *path: str) -> str:
    """Who states a field in a manifest and so will put it back, as a sentence; empty if nobody does."""
    for entry in maps(it, "metadata", "managedFields"):
        manager, fields = text(entry, "manager"), at(entry, "fieldsV1", *(f"f:{key}" for key in path))
        applies = entry.get("operation") == "Apply" or manager in _APPLIERS
        if fields is not None and applies and not entry.get("subresource") and manager != names.FIELD_MANAGER:
            field = ".".join(path)
            if tool := _TOOLS.get(manager):
                return f"{tool} states {field} from Git and will put it back: change it, or leave it out, there"
            return f"{field} stands in a manifest that {manager} applied, which puts it back when it is applied again"
    return ""
