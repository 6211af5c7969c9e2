"""The preStop hook of workers as part of a Pod. What it does there: ``in_pod/test_prestop.py``."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.states import group

from dask_resources.worker import worker_pod
from dask_resources.worker_hook import source, with_drain


def pod(**worker: Any) -> Any:
    return worker_pod(group(**worker), 0, "abcde", domain="example.org")["spec"]


def drained(spec: Any, seconds: int = 300) -> Any:
    return with_drain(spec, host="s", worker_name="w", drain_seconds=seconds)


def budget(spec: Any) -> int:
    return int(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-3])


@pytest.mark.parametrize("field", ["hostPID", "shareProcessNamespace"])
def test_where_processes_are_shared_process_1_is_left_alone(field):
    spec = drained({"containers": [{"name": "w"}], field: True})
    assert spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-2] == "0"


def test_the_grace_period_follows_the_drain_timeout():
    assert pod()["terminationGracePeriodSeconds"] == 330
    assert pod(drain_timeout_seconds=60)["terminationGracePeriodSeconds"] == 90
    command = pod()["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command[-7:] == [
        "simple-scheduler.team.svc.example.org",
        "8787",
        "8788",
        "simple-default-worker-0-abcde",
        "300",
        "1",
        "/etc/dask-gitops-security/control.key",
    ]


@pytest.mark.parametrize(("grace", "seconds"), [(5, 3), (60, 45), (120, 90), (3600, 300)])
def test_a_grace_period_of_the_user_is_kept_and_not_used_up(grace, seconds):
    spec = drained({"containers": [{"name": "w"}], "terminationGracePeriodSeconds": grace})
    assert spec["terminationGracePeriodSeconds"] == grace
    assert budget(spec) == seconds


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"name": "w", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]},
        {"containers": [{"name": "w"}], "terminationGracePeriodSeconds": 0},
    ],
)
def test_a_users_own_hook_and_haste_are_respected(spec):
    assert drained(spec) == spec
    assert drained({"containers": [{"name": "w"}]}, seconds=0) == {"containers": [{"name": "w"}]}


def test_a_failed_liveness_probe_does_not_wait_for_the_drain():
    probe = {"httpGet": {"port": 8788}}
    (container,) = drained({"containers": [{"name": "w", "livenessProbe": probe}]})["containers"]
    assert container["livenessProbe"] == {**probe, "terminationGracePeriodSeconds": 30}
    own = {**probe, "terminationGracePeriodSeconds": 7}
    assert drained({"containers": [{"name": "w", "livenessProbe": own}]})["containers"][0]["livenessProbe"] == own


@pytest.mark.parametrize(
    ("names", "main"), [(["w", "sidecar"], 0), (["proxy", "worker"], 1), (["a", "worker", "b"], 1), (["scheduler"], 0)]
)
def test_only_the_main_container_retires(names, main):
    """Wherever it stands (controller 9)."""
    spec = drained({"containers": [{"name": name} for name in names]})
    assert [container["name"] for container in spec["containers"]] == names
    assert ["lifecycle" in container for container in spec["containers"]] == [n == main for n in range(len(names))]


def test_a_hook_of_a_sidecars_own_is_no_reason_to_do_without():
    stopping = {"preStop": {"sleep": {"seconds": 1}}}
    spec = drained({"containers": [{"name": "proxy", "lifecycle": stopping}, {"name": "worker"}]})
    assert "exec" in spec["containers"][1]["lifecycle"]["preStop"]


def test_the_program_is_small_enough_to_travel_with_every_pod():
    assert len(source()) < 6 * 1024
    assert "$(" not in source()
