"""The running operator's spans at a collector."""

from __future__ import annotations

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support.collector import Collector
from tests.support.controller import Controller

pytestmark = pytest.mark.control_plane


def test_a_reconcile_tells_what_it_saw_decided_and_did(
    control_plane: ControlPlane, namespace: str, kubectl: Kubectl, kube: Manifests
) -> None:
    with Collector() as collector:
        operator = Controller(control_plane, namespace, "--trace", collector.url)
        try:
            kubectl.apply(kube.cluster_manifest("traced", workers=2))
            kubectl.wait_ready("daskcluster", "traced")
            eventually(lambda: [s for s in collector.named("act") if "created Pod traced-default-worker-1" in str(s)])
        finally:
            operator.stop()
        (act,) = [s for s in collector.named("act") if "created Pod traced-default-worker-1" in str(s)]
        reconcile = next(s for s in collector.named("reconcile") if s.span_id == act.parent_span_id)
        about = {"k8s.namespace.name": namespace, "dask.kind": "DaskWorkerGroup", "dask.name": "traced-default"}
        assert collector.attributes(reconcile) == about
        within = {s.name for s in collector.spans if s.parent_span_id == reconcile.span_id}
        assert {"observe", "decide", "act"} <= within
        assert collector.attributes(act)["dask.errors"] == 0
        assert collector.named("report")
