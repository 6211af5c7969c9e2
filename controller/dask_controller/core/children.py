"""What a cluster consists of: which of its children are missing, or not as stated.

Others may add to a child what they like, that is nothing to us. What they change of that which we state is set right
once: each change of theirs leads to one write of ours. Where a write changes nothing (the API server normalises some
values), it is not repeated, see `fingerprint`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dask_crds import names
from dask_crds.model import DaskWorkerGroup, Worker, dump, stated
from dask_crds.reasons import Reason
from dask_resources.metadata import metadata_patch, remembered
from dask_resources.revision import canonical, revision
from dask_resources.scheduler import (
    disruption_budget,
    extension_config_map,
    scheduler_deployment,
    scheduler_metadata,
    scheduler_revision,
    scheduler_service,
)
from dask_resources.worker import default_worker_group

from .actions import Action, Apply, Delete, Patch
from .observed import ObservedCluster
from .ownership import owner_uid
from .pod import Manifest, Problem

#: Labels by which children are found.
_LABELS = (names.CLUSTER, names.COMPONENT)


def changes(o: ObservedCluster) -> Iterator[Action]:
    """What has to be written.

    Nothing is made beside a ConfigMap or Service that somebody else has: a scheduler would load his module, and workers
    would connect to wherever his Service leads.
    """
    foreign = not (mine(o, o.config_map) and mine(o, o.service))
    for action in (_config_map(o), _service(o), _budget(o), _deployment(o), _default_group(o), *_relabelled(o)):
        if action is not None and not (foreign and isinstance(action, Apply) and action.new):
            yield action


def conflict(o: ObservedCluster) -> tuple[Problem | None, str]:
    """Whose the name of a child is, if it is not ours: what is wrong, or what is merely waited for."""
    group = default_group(o)
    children = [
        ("ConfigMap", o.config_map),
        ("Service", o.service),
        ("PodDisruptionBudget", o.disruption_budget),
        ("Deployment", o.deployment),
        ("DaskWorkerGroup", dump(group) if group else None),
    ]
    waiting = ""
    for kind, live in children:
        if live is None or mine(o, live):
            continue
        name = live["metadata"]["name"]
        if not is_going(live, o.cluster.name):
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


def mine(o: ObservedCluster, live: Manifest | None) -> bool:
    """Whether the child is ours to write: absent, or controlled by this very cluster."""
    return live is None or owner_uid(live) == o.cluster.uid


def default_group(o: ObservedCluster) -> DaskWorkerGroup | None:
    """The default group, if it exists."""
    return next((g for g in o.groups if g.name == names.default_group(o.cluster.name)), None)


def is_outdated(o: ObservedCluster) -> bool:
    """Whether the scheduler's Deployment is made from another template than the present one."""
    return o.deployment is not None and _annotation(o.deployment, names.REVISION) != scheduler_revision(o.cluster)


# --- one child after the other ----------------------------------------------------------------------------------------


def _config_map(o: ObservedCluster) -> Action | None:
    live, desired = o.config_map, extension_config_map(o.cluster)
    if not mine(o, live):
        return None
    # The data is there to be compared only if nobody has looked at this version yet, see `stands`.
    same = live is not None and live.get("data", desired["data"]) == desired["data"]
    if live is not None and (added := live.get("data", {}).keys() - desired["data"].keys()):
        # Python would find it: what lies beside the module is no addition but a change of what runs.
        data = dict.fromkeys(sorted(added))
        return Patch("ConfigMap", o.cluster.namespace, live["metadata"]["name"], {"data": data}, _uid(live))
    same = same and _is_labelled(live, desired) and _is_revised(live, desired)
    return None if same else _apply(o, live, desired, needed=True)


def _service(o: ObservedCluster) -> Action | None:
    live, desired = o.service, scheduler_service(o.cluster)
    if not mine(o, live):
        return None
    same = live is not None and contains(canonical(live["spec"]), canonical(desired["spec"]))
    if same and _is_labelled(live, desired) and _is_revised(live, desired):
        return None
    if live is not None and (ports := _ports(live["spec"], desired["spec"])):
        # Ports are merged by number: one that somebody has renumbered would stay beside ours, with the same name.
        return Patch("Service", o.cluster.namespace, live["metadata"]["name"], {"spec": {"ports": ports}}, _uid(live))
    return _apply(o, live, desired, needed=True)


def _ports(live: Manifest, desired: Manifest) -> list[Any]:
    """Our ports, and those of others that go together with them; empty if nothing stands in the way of ours."""

    def number(port: Manifest) -> tuple[Any, Any]:
        return port.get("port"), port.get("protocol") or "TCP"

    present, ours = live.get("ports") or [], desired["ports"]
    taken = {port.get("name"): number(port) for port in ours}
    numbers = set(taken.values())

    def rivals(port: Manifest) -> bool:
        same_name, same_number = port.get("name") in taken, number(port) in numbers
        return (same_name or same_number) and taken.get(port.get("name")) != number(port)

    if not any(map(rivals, present)):
        return []
    kept = [port for port in present if port.get("name") not in taken and number(port) not in numbers]
    node_ports = {port.get("name"): port["nodePort"] for port in present if port.get("nodePort")}
    with_node_ports = [
        port
        if "nodePort" in port or port.get("name") not in node_ports
        else {**port, "nodePort": node_ports[port["name"]]}
        for port in ours
    ]
    return [*with_node_ports, *kept]


def _budget(o: ObservedCluster) -> Action | None:
    """The PodDisruptionBudget, as long as there is a scheduler to protect: Kubernetes warns of one without a Pod."""
    live, desired = o.disruption_budget, disruption_budget(o.cluster)
    if not mine(o, live):
        return None
    wanted = o.cluster.spec.scheduler.eviction_policy != "Allow" and not o.cluster.spec.suspend
    if live is None:
        return Apply(desired, new=True) if wanted and o.scheduler_pods else None
    if not wanted or "minAvailable" in live["spec"]:  # beside which ours would be refused: it is made anew
        return Delete("PodDisruptionBudget", o.cluster.namespace, live["metadata"]["name"], _uid(live))
    same = contains(canonical(live["spec"]), canonical(desired["spec"])) and _is_labelled(live, desired)
    return None if same else _apply(o, live, desired)


def _deployment(o: ObservedCluster) -> Action | None:
    live, desired = o.deployment, scheduler_deployment(o.cluster)
    if live is None or not mine(o, live):
        return Apply(desired, new=True) if live is None else None
    if change := _deployment_change(live, desired):
        return Patch("Deployment", o.cluster.namespace, live["metadata"]["name"], change, _uid(live))
    if live["spec"].get("replicas") != desired["spec"]["replicas"]:
        return _apply(o, live, desired)
    if is_held(o):
        return None
    same = _is_revised(live, desired) and _deployment_stands(live, desired, stated_template(live, desired, o))
    return None if same else _apply(o, live, desired)


def _deployment_change(live: Manifest, desired: Manifest) -> dict[str, Any]:
    """What is set right apart: to apply all may restart the scheduler, if another release has made its template."""
    change: dict[str, Any] = {}
    if not _is_labelled(live, desired):
        change["metadata"] = {"labels": {key: desired["metadata"]["labels"][key] for key in _LABELS}}
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
    return template is None or contains(canonical(template["spec"]), canonical(stated))


def stands(o: ObservedCluster, kind: str) -> bool:
    """Whether the ConfigMap or Deployment of a snapshot, which is there as a whole, says all that we state."""
    if kind == "ConfigMap":
        return o.config_map is not None and o.config_map.get("data") == extension_config_map(o.cluster)["data"]
    if o.deployment is None:
        return False
    desired = scheduler_deployment(o.cluster)
    return _deployment_stands(o.deployment, desired, stated_template(o.deployment, desired, o))


def stands_as_stored(o: ObservedCluster, stored: Manifest) -> bool:
    """The same for a Deployment, by what the API server makes of ours: it writes some values in another way."""
    if o.deployment is None:
        return False
    desired = scheduler_deployment(o.cluster)
    stated = stated_template(o.deployment, desired, o)
    return _deployment_stands(o.deployment, desired, picked(stored["spec"]["template"]["spec"], stated))


def stated_template(live: Manifest, desired: Manifest, o: ObservedCluster) -> Manifest:
    """The part of the Pod's template that has to stand.

    What another release of the operator has added on its own is as good as ours, and to change it would restart the
    scheduler: then it is the user's part alone.
    """
    built_alike = _annotation(live, names.TEMPLATE) == _annotation(desired, names.TEMPLATE)
    stated: Manifest = desired["spec"]["template"]["spec"] if built_alike else o.cluster.spec.scheduler.spec
    return stated


def _default_group(o: ObservedCluster) -> Action | None:
    """The default group. Its size is handed on only when the cluster's own ``replicas`` has changed.

    Clients and ``kubectl scale`` set the size on the group itself; applying the cluster's number every time would
    undo them.
    """
    live = default_group(o)
    wanted = o.cluster.spec.worker.replicas
    if live is None:
        return Apply(default_worker_group(o.cluster, wanted), new=True)
    manifest = dump(live)
    if not mine(o, manifest):
        return None
    handed_on = _annotation(manifest, names.CLUSTER_REPLICAS) == str(wanted)
    replicas = live.spec.worker.replicas if handed_on else wanted
    desired = default_worker_group(o.cluster, replicas)
    before, after = (_annotation(one, names.LAST_APPLIED) or "" for one in (manifest, desired))
    same_metadata = remembered(before) == remembered(after) and _is_labelled(manifest, desired)
    if handed_on and same_metadata and _is_handed_on(manifest, live.spec.worker, desired, o.cluster.spec.worker):
        return None
    # With the version that was read, so that a scaling in between is not undone but leads to another look.
    desired["metadata"]["resourceVersion"] = live.metadata.get("resourceVersion")
    return _apply(o, manifest, desired)


def _is_handed_on(manifest: Manifest, live: Worker, desired: Manifest, wanted: Worker) -> bool:
    """Whether the group has the cluster's template: what others added stays, what we stated before and no more goes."""
    if live == wanted:
        return True
    before = _annotation(manifest, names.REVISION)
    if before is None:  # made by a release that did not note it
        return _template(live) == _template(wanted)
    there, ours = ({key: value for key, value in stated(w).items() if key != "replicas"} for w in (live, wanted))
    return before == _annotation(desired, names.REVISION) and contains(canonical(there), canonical(ours))


def _template(worker: Worker) -> str:
    """What the cluster decides about its default group: all but the number."""
    return revision({key: value for key, value in dump(worker).items() if key != "replicas"})


# --- labels and annotations -------------------------------------------------------------------------------------------


def _relabelled(o: ObservedCluster) -> list[Action | None]:
    """Labels and annotations that come from the user brought up to date where that restarts nothing."""
    cluster = o.cluster
    pods = scheduler_metadata(cluster)
    return [
        _relabel("ConfigMap", o, o.config_map, extension_config_map(cluster)),
        _relabel("Service", o, o.service, scheduler_service(cluster)),
        _relabel("PodDisruptionBudget", o, o.disruption_budget, disruption_budget(cluster)),
        _relabel("Deployment", o, o.deployment, scheduler_deployment(cluster)),
        *(
            Patch("Pod", pod.namespace, pod.name, {"metadata": patch}, pod.uid)
            for pod in o.scheduler_pods
            if not pod.deleting and (patch := metadata_patch(pods, pod.last_applied))
        ),
    ]


def _relabel(kind: str, o: ObservedCluster, live: Manifest | None, desired: Manifest) -> Action | None:
    if live is None or not mine(o, live):
        return None
    metadata = live["metadata"]
    patch = metadata_patch(desired["metadata"], _annotation(live, names.LAST_APPLIED) or "")
    if patch is None:
        return None
    return Patch(kind, metadata["namespace"], metadata["name"], {"metadata": patch}, metadata["uid"])


def _is_labelled(live: Manifest | None, desired: Manifest) -> bool:
    """Whether a child has the labels by which clients find it."""
    labels = ((live or {}).get("metadata", {}).get("labels")) or {}
    wanted: Mapping[str, str] = desired["metadata"]["labels"]
    return all(labels.get(key) == wanted[key] for key in _LABELS)


def _is_revised(live: Manifest | None, desired: Manifest) -> bool:
    return _annotation(live, names.REVISION) == _annotation(desired, names.REVISION)


def _annotation(manifest: Manifest | None, key: str) -> str | None:
    return ((manifest or {}).get("metadata", {}).get("annotations") or {}).get(key)


def _uid(live: Manifest) -> str:
    uid: str = live["metadata"]["uid"]
    return uid


def _apply(o: ObservedCluster, live: Manifest | None, desired: dict[str, Any], *, needed: bool = False) -> Apply | None:
    return None if fingerprint(desired) in o.settled else Apply(desired, new=live is None, needed=needed)


def fingerprint(manifest: Manifest) -> str:
    """Stands for what is applied, whatever the version that it was compared with."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "resourceVersion"}
    text = json.dumps({**manifest, "metadata": metadata}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# --- comparing --------------------------------------------------------------------------------------------------------

#: By which fields the members of a list are told apart, the first that all have; others are compared by their places.
_KEYS = (
    ("name",),
    ("mountPath",),
    ("devicePath",),
    ("containerPort", "protocol"),
    ("port", "protocol"),
    ("topologyKey", "whenUnsatisfiable"),
    ("ip",),
)


def contains(live: Any, desired: Any) -> bool:
    """Whether ``live`` has all that ``desired`` says; what the API server or others added does not matter."""
    if isinstance(desired, Mapping):
        return isinstance(live, Mapping) and all(key in live and contains(live[key], desired[key]) for key in desired)
    if isinstance(desired, list):
        pairs = _pairs(live, desired)
        return pairs is not None and all(contains(a, b) for a, b in pairs)
    return bool(live == desired)


def picked(stored: Any, stated: Any) -> Any:
    """Of ``stored`` just the fields that ``stated`` has."""
    if isinstance(stated, Mapping) and isinstance(stored, Mapping):
        return {key: picked(stored[key], stated[key]) for key in stated if key in stored}
    if isinstance(stated, list) and isinstance(stored, list):
        pairs = _pairs(stored, stated)
        return stored if pairs is None else [picked(a, b) for a, b in pairs]
    return stored


def _pairs(live: Any, desired: list[Any]) -> Iterable[tuple[Any, Any]] | None:
    """Each member of ``desired`` with that of ``live`` which it is about; ``None`` if that is not there."""
    if not isinstance(live, list):
        return None
    for fields in _KEYS:
        names_of = [tuple(item.get(field) for field in fields) if isinstance(item, Mapping) else () for item in desired]
        if desired and all(found and found[0] is not None for found in names_of) and len(set(names_of)) == len(desired):
            by_name = {tuple(item.get(field) for field in fields): item for item in live if isinstance(item, Mapping)}
            if not all(found in by_name for found in names_of):
                return None
            return [(by_name[found], item) for found, item in zip(names_of, desired, strict=True)]
    return zip(live, desired, strict=True) if len(live) == len(desired) else None
