"""Snapshots from the watch caches."""

from __future__ import annotations

from typing import Any

from tests.support.offline import OFFLINE
from tests.support.states import cluster

from dask_controller.core.observed import ObservedCluster
from dask_controller.shell.caches import Caches
from dask_controller.shell.observe import observe
from dask_crds.model import KINDS
from dask_resources.cluster import children


def put(caches: Caches, manifest: dict[str, Any], name: str) -> None:
    metadata = {**manifest["metadata"], "name": name, "uid": f"uid-{manifest['kind']}-{name}", "resourceVersion": "1"}
    for informer in caches.informers.values():
        informer.put({**manifest, "metadata": metadata})


def test_every_child_of_a_cluster_is_seen_once_it_exists() -> None:
    """And no other object of its kind with its labels."""
    caches = Caches(OFFLINE, None, lambda *_: None)
    made: dict[str, str] = {}
    for child in children(cluster()):
        if child.kind not in KINDS:
            put(caches, child.build(cluster()), f"another-{child.name}")
            put(caches, child.build(cluster()), child.name)
            made[child.kind] = child.name
        observed = observe(cluster(), caches)
        assert isinstance(observed, ObservedCluster)
        assert {kind: found["metadata"]["name"] for kind, found in observed.children.items()} == made


def test_children_are_called_what_they_are_looked_for_as() -> None:
    for child in children(cluster()):
        manifest = child.build(cluster())
        assert (manifest["kind"], manifest["metadata"]["name"]) == (child.kind, child.name)
