"""Where a scheduler is asked: which Pod, and which of its ports."""

from __future__ import annotations

import pytest
from tests.support.states import NOW, scheduler_pod

from dask_controller.core.scheduler import dashboard_port, pod_to_ask


def service(**port):
    return {"spec": {"ports": [{"name": "tcp-comm", "port": 1, "targetPort": 1}, {"name": "http-dashboard", **port}]}}


@pytest.mark.parametrize(
    ("ports", "found", "number"),
    [
        ({"http-dashboard": 9000}, service(port=80, targetPort=9001), 9000),
        ({}, service(port=80, targetPort=9001), 9001),
        ({"web": 9002}, service(port=80, targetPort="web"), 9002),
        ({}, service(port=80), 80),
        ({}, service(port=80, targetPort="gone"), 8787),
        ({}, {"spec": {"ports": [{"port": 80}]}}, 8787),
        ({}, {"spec": {}}, 8787),
        ({}, None, 8787),
    ],
)
def test_the_port_by_name_then_by_the_services_target_then_the_usual_one(ports, found, number):
    assert dashboard_port(scheduler_pod(ports=ports), found) == number


def test_the_newest_pod_that_lives_and_has_an_address():
    old, new = scheduler_pod(uid="old"), scheduler_pod(uid="new", created=NOW)
    evicted = scheduler_pod(uid="evicted", created=NOW + 1, phase="Failed")
    going, coming = scheduler_pod(uid="going", deleting=True), scheduler_pod(uid="coming", created=NOW + 2, ip="")
    assert pod_to_ask((old, new, evicted, going, coming)).uid == "new"
    assert pod_to_ask((evicted, going, coming)) is None
