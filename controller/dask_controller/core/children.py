"""What a cluster consists of: which of its children are missing, or not as stated.

Others may add to a child what they like, that is nothing to us. What they change of that which we state is set right
once: each change of theirs leads to one write of ours. Where a write changes nothing (the API server normalises some
values), it is not repeated, see `fingerprint`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from dask_crds import names
from dask_crds.model import KINDS, DaskWorkerGroup, stated
from dask_crds.names import Annotation
from dask_crds.reasons import Reason
from dask_resources.cluster import Child, children
from dask_resources.metadata import metadata_patch
from dask_resources.revision import compact
from dask_resources.scheduler import (
    extension_config_map,
    scheduler_deployment,
    scheduler_metadata,
    scheduler_revision,
)

from .actions import Action, Apply, Patch, PutKey
from .child import LABELS, annotated, apply_of, delete_of, is_labelled, is_mine, is_revised, patch_of, says
from .cluster_groups import autoscaler_change, group_change, no_longer_stated
from .compare import contains, picked, ports_beside
from .encryption import certificate, is_due
from .observed import ObservedCluster
from .pod import Manifest, Problem
from .time import Time


def changes(o: ObservedCluster, now: Time) -> Iterator[Action]:
    """What has to be written: the Secret, the children in the order in which they are made, labels and annotations.

    Nothing is made beside a ConfigMap or Service that somebody else has: a scheduler would load his module, and workers
    would connect to wherever his Service leads.
    """
    wanted_certificate = certificate(o, now)
    renew = is_due(o, wanted_certificate)
    if o.signed and (renew or not o.signing.ensured):
        yield PutKey(o.cluster, wanted_certificate, renew)
    found, wanted = existing(o), children(o.cluster, signed=o.signed)
    compared = [(child, found.get((child.kind, child.name)), child.build(o.cluster)) for child in wanted]
    actions = [_change(o, *each) for each in compared]
    # A Dask resource is applied as a whole: that restarts nothing.
    actions += [_relabel(o, live, desired) for child, live, desired in compared if live and child.kind not in KINDS]
    foreign = any(child.needed and live and not is_mine(o, live) for child, live, _ in compared)
    for action in actions:
        if action is not None and not (foreign and isinstance(action, Apply) and action.new):
            yield action
    yield from no_longer_stated(o)
    yield from _relabelled_pods(o)


def existing(o: ObservedCluster) -> dict[tuple[str, str], Manifest]:
    """The children that exist, by kind and name; of groups just the metadata."""
    ours: dict[tuple[str, str], Manifest] = {(g.kind, g.name): {"metadata": g.metadata} for g in o.groups}
    ours |= {(a.kind, a.name): {"metadata": a.metadata, "spec": stated(a.spec)} for a in o.autoscalers}
    found = ((child, ours.get((child.kind, child.name)) or o.children.get(child.kind)) for child in children(o.cluster))
    return {(child.kind, child.name): live for child, live in found if live is not None}


def conflict(o: ObservedCluster) -> tuple[Problem | None, str]:
    """Whose the name of a child is, if it is not ours: what is wrong, or what is merely waited for."""
    waiting = ""
    for (kind, _), child in existing(o).items():
        if is_mine(o, child):
            continue
        name = child["metadata"]["name"]
        if not is_going(child, o.cluster.name):
            message = f"{kind} {name} exists and belongs to somebody else; rename it or the cluster"
            return Problem(Reason.NAME_CONFLICT, message), ""
        waiting = waiting or f"waiting for {kind} {name} of the cluster before to be gone"
    return None, waiting


def is_going(live: Manifest, cluster: str) -> bool:
    """Whether somebody else's child is about to go: it is being deleted, or garbage of an earlier cluster."""
    owners = live["metadata"].get("ownerReferences") or []
    return bool(live["metadata"].get("deletionTimestamp")) or any(
        owner.get("kind") == "DaskCluster" and owner.get("name") == cluster and owner.get("controller")
        for owner in owners
    )


def default_group(o: ObservedCluster) -> DaskWorkerGroup | None:
    """The default group, if it exists."""
    return next((g for g in o.groups if g.name == names.default_group(o.cluster.name)), None)


def is_outdated(o: ObservedCluster) -> bool:
    """Whether the scheduler's Deployment is made from another template than the present one."""
    return o.deployment is not None and annotated(o.deployment, Annotation.REVISION) != scheduler_revision(o.cluster)


# --- one child after the other ----------------------------------------------------------------------------------------


def _change(o: ObservedCluster, child: Child, live: Manifest | None, desired: dict[str, Any]) -> Action | None:
    """What has to be written of a child."""
    if live is None:
        made = child.wanted and (o.scheduler_pods or not child.awaits_pod)
        return Apply(desired, new=True, needed=child.needed) if made else None
    if not is_mine(o, live):
        return None
    if not child.wanted:
        return delete_of(live, desired)
    action = _COMPARED.get(child.kind, _any_child)(o, live, desired)
    return msgspec.structs.replace(action, needed=child.needed) if isinstance(action, Apply) else action


def _any_child(o: ObservedCluster, live: Manifest, desired: Manifest) -> Action | None:
    """A child of which no more is to be said than that its spec should stand."""
    return None if says(live, desired) else apply_of(o, desired)


def _config_map(o: ObservedCluster, live: Manifest, desired: Manifest) -> Action | None:
    # The data is there to be compared only if nobody has looked at this version yet, see `stands`.
    ours: Manifest = desired["data"]
    present: Manifest = live.get("data", ours)
    binary: Manifest = live.get("binaryData") or {}
    if binary or present.keys() - ours:
        # Python would find it: a file beside ours is no addition but a change of what runs. All that differs is set
        # right at once, so that no scheduler starts with the files of two releases.
        differing = {name for name in {*present, *ours} if present.get(name) != ours.get(name)}
        more = {"binaryData": None} if binary else {}
        return patch_of(live, desired, {"data": {name: ours.get(name) for name in sorted(differing)}, **more})
    same = present == ours and is_labelled(live, desired) and is_revised(live, desired)
    return None if same else apply_of(o, desired)


def _service(o: ObservedCluster, live: Manifest, desired: Manifest) -> Action | None:
    if says(live, desired):
        return None
    # Ports are merged by number: one that somebody has renumbered would stay beside ours, with the same name.
    ports = ports_beside(live["spec"].get("ports") or [], desired["spec"]["ports"])
    return patch_of(live, desired, {"spec": {"ports": ports}}) if ports else apply_of(o, desired)


def _budget(o: ObservedCluster, live: Manifest, desired: Manifest) -> Action | None:
    if "minAvailable" in live["spec"]:  # beside which ours would be refused: it is made anew
        return delete_of(live, desired)
    return _any_child(o, live, desired)


def _deployment(o: ObservedCluster, live: Manifest, desired: Manifest) -> Action | None:
    if change := _deployment_change(live, desired):
        return patch_of(live, desired, change)
    if live["spec"].get("replicas") != desired["spec"]["replicas"]:
        return apply_of(o, desired)
    if is_held(o):
        return None
    same = all(annotated(live, key) == annotated(desired, key) for key in (Annotation.REVISION, Annotation.TLS_SECRET))
    same = same and _deployment_stands(live, desired, stated_template(live, desired, o))
    return None if same else apply_of(o, desired)


def _deployment_change(live: Manifest, desired: Manifest) -> dict[str, Any]:
    """What is set right apart: to apply all may restart the scheduler, if another release has made its template."""
    change: dict[str, Any] = {}
    if not is_labelled(live, desired):
        change["metadata"] = {"labels": {key: desired["metadata"]["labels"][key] for key in LABELS}}
    spec: dict[str, Any] = {}
    if (live["spec"].get("strategy") or {}).get("rollingUpdate"):  # beside which ours would be refused
        spec["strategy"] = {"type": desired["spec"]["strategy"]["type"], "rollingUpdate": None}
    if (live["spec"].get("replicas") or 0) > desired["spec"]["replicas"] > 0:
        spec["replicas"] = desired["spec"]["replicas"]
    return change | ({"spec": spec} if spec else {})


def is_held(o: ObservedCluster) -> bool:
    """Whether ``updateStrategy: OnDelete`` keeps the scheduler as it is: its Pod is the one that was seen before."""
    strategy = o.cluster.spec.scheduler.update_strategy
    if strategy is None or strategy.type != "OnDelete":
        return False
    return any(p.uid == o.cluster.status.scheduler_pod_uid and not p.deleting for p in o.scheduler_pods)


def _deployment_stands(live: Manifest, desired: Manifest, stated: Manifest) -> bool:
    """Whether a Deployment still says what we state, as far as it is there to be compared."""
    template, strategy = live["spec"].get("template"), live["spec"].get("strategy")
    if strategy is not None and strategy.get("type") != desired["spec"]["strategy"]["type"]:
        return False
    return template is None or contains(compact(template["spec"]), compact(stated))


def stands(o: ObservedCluster, kind: str) -> bool:
    """Whether the ConfigMap or Deployment of a snapshot, which is there as a whole, says all that we state."""
    if kind == "ConfigMap":
        found = o.children.get("ConfigMap") or {}
        return found.get("data") == extension_config_map(o.cluster)["data"] and not found.get("binaryData")
    return stands_as_stored(o)


def stands_as_stored(o: ObservedCluster, stored: Manifest | None = None) -> bool:
    """The same for a Deployment, by what the API server makes of ours (``stored``): it writes some values otherwise."""
    if o.deployment is None:
        return False
    desired = scheduler_deployment(o.cluster, signed=o.signed)
    stated = stated_template(o.deployment, desired, o)
    if stored is not None:
        stated = picked(stored["spec"]["template"]["spec"], stated)
    return _deployment_stands(o.deployment, desired, stated)


def stated_template(live: Manifest, desired: Manifest, o: ObservedCluster) -> Manifest:
    """The part of the Pod's template that has to stand.

    What another release of the operator has added on its own is as good as ours, and to change it would restart the
    scheduler: then it is the user's part alone.
    """
    built_alike = annotated(live, Annotation.TEMPLATE) == annotated(desired, Annotation.TEMPLATE)
    stated: Manifest = desired["spec"]["template"]["spec"] if built_alike else o.cluster.spec.scheduler.spec
    return stated


#: How the children are compared of which more is to be said than that their spec should stand.
_COMPARED: Mapping[str, Callable[[ObservedCluster, Manifest, dict[str, Any]], Action | None]] = {
    "ConfigMap": _config_map,
    "Service": _service,
    "PodDisruptionBudget": _budget,
    "Deployment": _deployment,
    "DaskWorkerGroup": group_change,
    "DaskAutoscaler": autoscaler_change,
}


# --- labels and annotations -------------------------------------------------------------------------------------------


def _relabelled_pods(o: ObservedCluster) -> Iterator[Action]:
    """Labels and annotations of the scheduler's Pods that come from the user, where they are not up to date."""
    desired = scheduler_metadata(o.cluster)
    for pod in o.scheduler_pods:
        if not pod.deleting and (patch := metadata_patch(desired, pod.last_applied)):
            yield Patch("Pod", pod.namespace, pod.name, {"metadata": patch}, pod.uid)


def _relabel(o: ObservedCluster, live: Manifest, desired: Manifest) -> Action | None:
    """The same for a child: nothing has to be applied for them, which may restart the scheduler."""
    if not is_mine(o, live):
        return None
    patch = metadata_patch(desired["metadata"], annotated(live, Annotation.LAST_APPLIED))
    return None if patch is None else patch_of(live, desired, {"metadata": patch})
