"""Clusters from templates that Git states: what is sent to the API server, which holds it to the template."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from dask_crds import names
from dask_crds.inheritance import repeated
from dask_crds.names import Annotation, Label

from .access import Access
from .routes import is_inside


def name_of(name: str | None, template: str | None) -> str:
    """The name of a cluster: the one that is given, or one that nobody has for one from a template.

    Raises:
        ValueError: both are given, or neither.
    """
    if bool(name) == bool(template):
        raise ValueError("either the name of a cluster, or template= to make one from")
    suffix = "".join(secrets.choice(names.SUFFIX_LETTERS) for _ in range(names.SUFFIX_LENGTH))  # as its policy wants it
    return name or f"{template}-{suffix}"


def manifest(
    template: Mapping[str, Any], name: str, *, user: str, workers: int | None, pod: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The cluster that is made.

    Args:
        template: manifest of the template.
        name: of the cluster.
        user: who asks, as the API server knows them.
        workers: so many, unless the template lets them follow the load; ``None``: as many as it states.
        pod: with which the cluster goes.
    """
    said = template["metadata"]
    of = said["name"]
    spec = {**template["spec"], "suspend": False}
    if workers is not None and not spec.get("autoscaler"):
        spec["worker"] = {**spec["worker"], "replicas": workers}
    metadata: dict[str, Any] = {
        "name": name,
        "labels": {**repeated(said.get("labels")), Label.MADE_FROM: of},
        "annotations": {**repeated(said.get("annotations")), Annotation.OWNER: user},
    }
    if pod is not None:
        owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": names.API_VERSION, "kind": "DaskCluster", "metadata": metadata, "spec": spec}


async def make(
    access: Access, template: str, name: str, *, workers: int | None, keep: bool, note: Callable[[str], None]
) -> str:
    """Make a cluster.

    Args:
        access: way to the API server.
        template: name of the template.
        name: of the cluster.
        workers: see `manifest`.
        keep: whether it outlives the Pod that we run in.
        note: where words go that are worth keeping.

    Returns:
        Its uid.

    Raises:
        NoSuchCluster: there is no such template.
        MissingRight: the user may not make clusters here.
        Refused: the template's policy does not allow it; the message names the bound.
    """
    found = await access.get("DaskCluster", template)
    pod = None if keep else await _own_pod(access)
    if pod is None and not keep:
        after = found["spec"].get("noClientTimeout")
        ends = f"{after} s after its last client has left" if after else "when it is deleted"
        note(f"{name}: it belongs to no Pod, as we run in none of {access.namespace}; left behind it ends {ends}")
    wanted = manifest(found, name, user=await access.user(), workers=workers, pod=pod)
    return str((await access.create("DaskCluster", wanted))["metadata"]["uid"])


async def _own_pod(access: Access) -> dict[str, Any] | None:
    """The Pod that we run in, if it is in the namespace of the cluster: another one cannot own it."""
    name = os.environ.get("HOSTNAME", "")
    if not name or not is_inside(access.server, os.environ) or _own_namespace() != access.namespace:
        return None
    found = await access.all("Pod", fields=f"metadata.name={name}")
    return next(iter(found), None)  # it may have another name than its host


def _own_namespace() -> str:
    try:
        with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace") as file:
            return file.read().strip()
    except OSError:
        return ""
