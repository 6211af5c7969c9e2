"""Clusters that speak TLS: their Pods, their Service, and who follows when that changes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.states import cluster, group, job, pod_spec

from dask_crds.model import DaskCluster, JobCluster, Scheduler, Security, Tls
from dask_crds.names import Annotation, Label
from dask_resources.job import runner_job
from dask_resources.scheduler import comm_address, scheduler_deployment, scheduler_revision, scheduler_service
from dask_resources.security import certificates_of
from dask_resources.worker import worker_pod, worker_revision

SECRET = Security(tls=Tls(mode="Secret", secret_name="mine"))
GENERATED = Security(tls=Tls(mode="Generated"))
COMM = "DASK_DISTRIBUTED__COMM__"


def of_scheduler(spec: Any = None, *, service: Any = None, security: Security = SECRET) -> DaskCluster:
    of = cluster(security=security)
    scheduler = Scheduler(spec=spec or pod_spec(), service=service)
    return replace(of, spec=replace(of.spec, scheduler=scheduler))


def template(of: DaskCluster) -> dict[str, Any]:
    return scheduler_deployment(of)["spec"]["template"]["spec"]


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container["env"]}


def mounts(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sources of the main container's volumes, by path."""
    volumes = {each["name"]: each for each in spec["volumes"]}
    return {mount["mountPath"]: volumes[mount["name"]] for mount in spec["containers"][0]["volumeMounts"]}


def pods() -> dict[str, dict[str, Any]]:
    of = job()
    of = replace(of, spec=replace(of.spec, cluster=JobCluster(spec=cluster(security=SECRET).spec)))
    return {
        "scheduler": template(cluster(security=SECRET)),
        "worker": worker_pod(group(), 0, "abcde", certificates="mine")["spec"],
        "runner": runner_job(of)["spec"]["template"]["spec"],
    }


@pytest.mark.parametrize("component", ["scheduler", "worker", "runner"])
def test_pods_are_told_by_variables_and_files_alone(component):
    pod = pods()[component]
    [container] = pod["containers"]
    told = environment(container)
    assert container["args"] == pod_spec()["containers"][0]["args"], "command lines stay"
    assert told[f"{COMM}DEFAULT_SCHEME"] == "tls"
    assert told[f"{COMM}TLS__CA_FILE"] == "/etc/dask-gitops-tls/ca.crt"
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        assert told[f"{COMM}TLS__{role}__CERT"] == "/etc/dask-gitops-tls/tls.crt"
        assert told[f"{COMM}TLS__{role}__KEY"] == "/etc/dask-gitops-tls/tls.key"
    assert told.get(f"{COMM}REQUIRE_ENCRYPTION") == (None if component == "scheduler" else "True")
    source = mounts(pod)["/etc/dask-gitops-tls"]["secret"]
    assert (source["secretName"], "optional" in source) == ("mine", False), "no Pod starts without it"
    assert [item["key"] for item in source["items"]] == ["ca.crt", "tls.crt", "tls.key"], "and nothing else of it"


@pytest.mark.parametrize("component", ["worker", "runner"])
def test_the_address_says_it(component):
    assert environment(pods()[component]["containers"][0])["DASK_SCHEDULER_ADDRESS"].startswith("tls://")
    assert comm_address("c", "n", tls=True) == "tls://c-scheduler.n.svc.cluster.local:8786"


def test_what_a_user_says_of_a_variable_counts():
    mine = {"name": f"{COMM}DEFAULT_SCHEME", "value": "tcp"}
    spec: Any = {"containers": [{"name": "dask", "image": "x", "env": [mine]}]}
    env = template(of_scheduler(spec))["containers"][0]["env"]
    assert [each for each in env if each["name"] == mine["name"]] == [mine]


def test_sidecars_have_no_key():
    spec: Any = {"containers": [{"name": "scheduler", "image": "x"}, {"name": "log", "image": "y"}]}
    log = template(of_scheduler(spec))["containers"][1]
    assert not log.get("volumeMounts")
    assert not log.get("env")


def test_without_tls_nothing_changes():
    for of in (cluster(), cluster(security=Security())):
        assert certificates_of(of) == ""
        assert scheduler_revision(of) == scheduler_revision(cluster())
        assert scheduler_deployment(of) == scheduler_deployment(cluster())
        assert scheduler_service(of) == scheduler_service(cluster())
    assert worker_pod(group(), 0, "abcde", certificates="") == worker_pod(group(), 0, "abcde")


def test_a_change_of_security_restarts_scheduler_and_workers():
    found = [cluster(), cluster(security=SECRET), cluster(security=GENERATED)]
    assert len({scheduler_revision(of) for of in found}) == 3
    assert len({worker_revision(group(), certificates_of(of)) for of in found}) == 3
    pod = worker_pod(group(), 0, "abcde", certificates="mine")
    assert pod["metadata"]["labels"][Label.REVISION] == worker_revision(group(), "mine")
    assert scheduler_deployment(found[1])["metadata"]["annotations"][Annotation.TLS_SECRET] == "mine"


def test_what_the_operator_makes_is_in_a_secret_of_this_very_cluster():
    one, other = (replace(cluster(security=GENERATED), metadata={"name": "simple", "uid": uid}) for uid in "ab")
    assert certificates_of(one) != certificates_of(other)
    assert certificates_of(one).startswith("simple-security-")


# --- ports ------------------------------------------------------------------------------------------------------------


def ports(of: DaskCluster) -> list[tuple[Any, ...]]:
    found = scheduler_service(of)["spec"]["ports"]
    return [(port.get("name"), port["port"], port.get("targetPort")) for port in found]


def loopback(of: DaskCluster) -> str | None:
    return environment(template(of)["containers"][0]).get("DASK_GITOPS_LOOPBACK_PORT")


def test_unchanged_clients_find_the_loopback_by_the_name_of_a_port():
    """kr8s, which ``KubeCluster`` forwards ports with, goes to the number that the Service has."""
    of = cluster(security=SECRET)
    assert ports(of) == [
        ("tls-comm", 8786, 8786),
        ("http-dashboard", 8787, 8787),
        ("tcp-comm", 8789, 8789),
        ("dask-gitops", 8788, "dask-gitops"),
    ]
    assert loopback(of) == "8789"


def test_the_service_of_a_user_leads_where_it_led():
    theirs = {
        "ports": [
            {"name": "tcp-comm", "port": 9000, "targetPort": 8786},
            {"name": "http-dashboard", "port": 8787},
            {"name": "metrics", "port": 8789},
        ]
    }
    of = of_scheduler(service=theirs)
    assert ports(of)[:3] == [("tls-comm", 9000, 8786), ("http-dashboard", 8787, None), ("metrics", 8789, None)]
    assert ports(of)[3:] == [("tcp-comm", 8790, 8790), ("dask-gitops", 8788, "dask-gitops")]
    assert loopback(of) == "8790"


def test_a_port_that_the_pod_has_is_not_taken():
    spec: Any = {"containers": [{"name": "x", "image": "x", "ports": [{"containerPort": n} for n in (8788, 8790)]}]}
    of = of_scheduler(spec)
    [container] = template(of)["containers"]
    assert container["ports"][0] == {"name": "dask-gitops", "containerPort": 8789, "protocol": "TCP"}
    assert loopback(of) == "8791"
    numbers = [number for _, number, _ in ports(of)]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("name", ["tls-comm", "tcp-comm"])
def test_a_user_with_both_names_has_said_what_they_mean(name):
    theirs = {"ports": [{"name": "tls-comm", "port": 1}, {"name": "tcp-comm", "port": 2}]}
    assert dict(pair[:2] for pair in ports(of_scheduler(service=theirs)))[name] == (1 if name == "tls-comm" else 2)


def test_the_loopback_of_a_node_is_nobodys():
    of = of_scheduler({**pod_spec(), "hostNetwork": True})
    assert loopback(of) is None
    assert [name for name, *_ in ports(of)] == ["tls-comm", "http-dashboard", "dask-gitops"]


def test_an_alias_of_another_name_has_no_ports():
    of = of_scheduler(service={"type": "ExternalName", "externalName": "elsewhere.example.org"})
    assert [name for name, *_ in ports(of)] == ["tcp-comm", "http-dashboard"]


def test_the_startup_probe_looks_at_the_port_of_tls():
    assert template(cluster(security=SECRET))["containers"][0]["startupProbe"]["tcpSocket"] == {"port": 8786}


# --- as it is stated --------------------------------------------------------------------------------------------------


def test_the_certificates_of_a_job_are_those_of_its_cluster():
    of = job()
    of = replace(of, spec=replace(of.spec, cluster=JobCluster(spec=cluster(security=GENERATED).spec)))
    runner = runner_job(of, cluster_uid="uid")["spec"]["template"]["spec"]
    named = replace(cluster("hello", security=GENERATED), metadata={"name": "hello", "uid": "uid"})
    assert mounts(runner)["/etc/dask-gitops-tls"]["secret"]["secretName"] == certificates_of(named)
