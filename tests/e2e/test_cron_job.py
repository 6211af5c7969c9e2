"""Jobs on a schedule: the construct's manifests on a real node, with Kubernetes' own controller of CronJobs."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml
from tests.e2e.support import Kubectl, Manifests, eventually
from tests.support.constructs import chart, synth

from dask_constructs import DaskCronJob
from dask_crds.model import DaskJobSpec, parse

pytestmark = pytest.mark.node


@pytest.fixture
def schedule(kubectl: Kubectl, kube: Manifests):
    """Applies a DaskCronJob whose runs execute ``code``."""

    def apply(name: str, code: str, **options: Any) -> None:
        spec = parse(kube.job_manifest(name, code, backoffLimit=0)).spec
        assert isinstance(spec, DaskJobSpec)
        c = chart(namespace=kubectl.namespace)
        DaskCronJob.from_spec(c, name, name=name, spec=spec, **({"schedule": "0 0 1 1 *"} | options))
        kubectl("apply", "-f", "-", input=yaml.safe_dump_all(synth(c)))

    return apply


def names(kubectl: Kubectl, kind: str) -> list[str]:
    return [item["metadata"]["name"] for item in kubectl.json("get", kind)["items"]]


def job_condition(kubectl: Kubectl, name: str, type: str) -> bool:
    conditions = kubectl.json("get", "job", name)["status"].get("conditions", [])
    return any(c["type"] == type and c["status"] == "True" for c in conditions)


def test_a_run_by_hand_lasts_as_long_as_its_dask_job_and_takes_it_along(kubectl, schedule):
    schedule("report", "from distributed import Client; print(Client().submit(sum, [1, 2]).result())")
    kubectl("create", "job", "now", "--from=cronjob/report")
    eventually(lambda: names(kubectl, "daskjobs") == ["now"])
    (starter,) = kubectl.json("get", "pods", "-l", "dask.org/component=job-starter")["items"]
    # A node that is drained: another Pod follows the same DaskJob on.
    kubectl("delete", "pod", starter["metadata"]["name"], "--wait=false")
    eventually(lambda: job_condition(kubectl, "now", "Complete"), seconds=180)
    assert kubectl.condition("daskjob", "now", "Complete")["status"] == "True"
    assert kubectl("logs", "job/now-runner").strip() == "3"
    assert "Successful" in kubectl("logs", "job/now")
    assert names(kubectl, "daskjobs") == ["now"]
    kubectl("delete", "job", "now")
    eventually(lambda: not names(kubectl, "daskjobs") and "now-runner" not in names(kubectl, "jobs"))


def test_a_dask_job_that_fails_fails_its_job_at_once(kubectl, schedule):
    schedule("wrong", "raise SystemExit(7)")
    kubectl("create", "job", "failing", "--from=cronjob/wrong")
    eventually(lambda: job_condition(kubectl, "failing", "Failed"), seconds=180)
    assert kubectl.json("get", "job", "failing")["status"]["failed"] == 1
    assert "BackoffLimitExceeded" in kubectl("logs", "job/failing")


def test_the_schedule_makes_a_run_that_ends_with_its_job(kubectl, schedule):
    schedule("often", "import time; time.sleep(600)", schedule="* * * * *", concurrency_policy="Forbid")
    eventually(lambda: len(names(kubectl, "daskclusters")) == 1, seconds=120)
    (run,) = names(kubectl, "daskjobs")
    assert run.startswith("often-")
    kubectl("patch", "cronjob", "often", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    kubectl("delete", "job", run, "--cascade=background")  # as `concurrencyPolicy: Replace` and the history limits do
    eventually(lambda: names(kubectl, "daskclusters") == names(kubectl, "daskjobs") == [], seconds=90)


def test_a_job_that_cannot_be_is_refused_at_once(kubectl, schedule):
    schedule("misnamed", "pass")
    name = "x" * 60  # too long for a cluster
    kubectl("create", "job", name, "--from=cronjob/misnamed")
    eventually(lambda: job_condition(kubectl, name, "Failed"), seconds=90)
    assert "53 characters" in kubectl("logs", f"job/{name}")


def test_the_starter_may_do_nothing_else(kubectl, schedule):
    schedule("least", "pass")
    account = f"system:serviceaccount:{kubectl.namespace}:least-starter"

    def may(verb: str, resource: str) -> bool:
        try:
            return kubectl("auth", "can-i", verb, resource, f"--as={account}").strip() == "yes"
        except subprocess.CalledProcessError:
            return False

    assert may("create", "daskjobs")
    assert may("get", "daskjobs")
    others = [("delete", "daskjobs"), ("patch", "daskjobs"), ("create", "daskclusters"), ("create", "pods")]
    assert not [pair for pair in [*others, ("get", "secrets"), ("list", "daskjobs")] if may(*pair)]
