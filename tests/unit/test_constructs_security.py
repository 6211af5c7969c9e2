"""``security=``: what manifests say for each source of certificates, and what comes with it (finding 9)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.support.constructs import IMAGE, chart, errors, only, synth

from dask_constructs import DaskCluster, DaskCronJob, DaskJob, Tls, problems


def by_name(manifests: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def cluster(tls: Any, **options: Any) -> Any:
    c = chart(namespace="team")
    DaskCluster(c, "cluster", **{"name": "analytics", "image": IMAGE, "security": tls, **options})
    return c


class Found:
    """An object of cdk8s-plus, say."""

    def __init__(self, kind: str) -> None:
        self.kind, self.name = kind, "found"


def test_without_it_nothing_is_stated() -> None:
    assert "security" not in only(cluster(None))["spec"]


def test_the_operators_certificates_are_one_word() -> None:
    assert only(cluster(Tls.generated()))["spec"]["security"] == {"tls": {"mode": "Generated"}}


def test_your_own_are_named() -> None:
    assert only(cluster(Tls.secret("mine")))["spec"]["security"] == {"tls": {"mode": "Secret", "secretName": "mine"}}
    assert only(cluster(Tls.secret(Found("Secret"))))["spec"]["security"]["tls"]["secretName"] == "found"


def test_cert_manager_gets_an_authority_for_this_cluster_alone() -> None:
    found = by_name(synth(cluster(Tls.cert_manager(days=30))))
    stated = found["DaskCluster", "analytics"]["spec"]["security"]
    assert stated == {"tls": {"mode": "Secret", "secretName": "analytics-tls"}}
    spec = {key: manifest["spec"] for key, manifest in found.items()}
    assert spec["Issuer", "analytics-self-signed"] == {"selfSigned": {}}
    authority = spec["Certificate", "analytics-ca"]
    assert (authority["isCA"], authority["issuerRef"]["name"]) == (True, "analytics-self-signed")
    assert authority["privateKey"]["rotationPolicy"] == "Never", "by another key nobody would believe the others"
    assert spec["Issuer", "analytics-ca"] == {"ca": {"secretName": authority["secretName"]}}
    leaf = spec["Certificate", "analytics-tls"]
    assert (leaf["secretName"], leaf["issuerRef"]["name"]) == ("analytics-tls", "analytics-ca")
    assert (leaf["duration"], leaf["renewBefore"]) == ("720h", "240h"), "at two thirds of its life"
    assert {"server auth", "client auth"} <= set(leaf["usages"])
    assert "analytics-scheduler.team.svc" in leaf["dnsNames"]
    assert {manifest["metadata"]["namespace"] for manifest in found.values()} == {"team"}
    assert len(found) == 5


def test_two_clusters_have_two_authorities() -> None:
    c = chart(namespace="team")
    for name in ("one", "two"):
        DaskCluster(c, name, image=IMAGE, security=Tls.cert_manager())
    found = by_name(synth(c))
    assert len(found) == 10
    assert len({m["spec"]["ca"]["secretName"] for m in found.values() if "ca" in m["spec"]}) == 2


def test_a_name_that_is_made_up_is_that_of_the_secret() -> None:
    found = by_name(synth(cluster(Tls.cert_manager(), name=None)))
    ((_, name),) = [key for key in found if key[0] == "DaskCluster"]
    assert found["DaskCluster", name]["spec"]["security"]["tls"]["secretName"] == f"{name}-tls"
    assert ("Certificate", f"{name}-tls") in found


@pytest.mark.parametrize("run_once", [None, True])
def test_the_certificates_of_a_job(run_once: bool | None) -> None:
    c = chart(namespace="team")
    DaskJob(c, "j", name="train", image=IMAGE, command=["x"], security=Tls.cert_manager(), run_once=run_once)
    found = by_name(synth(c))
    (job,) = [manifest for (kind, _), manifest in found.items() if kind == "DaskJob"]
    stated = job["spec"]["cluster"]["spec"]["security"]["tls"]["secretName"]
    assert found["Certificate", stated]["spec"]["secretName"] == stated


def test_the_runs_of_a_cron_job_share_theirs() -> None:
    c = chart(namespace="team")
    DaskCronJob(c, "j", name="report", schedule="@daily", image=IMAGE, command=["x"], security=Tls.cert_manager())
    found = by_name(synth(c))
    job = yaml.safe_load(found["ConfigMap", "report"]["data"]["dask-job.yaml"])
    assert job["spec"]["cluster"]["spec"]["security"]["tls"]["secretName"] == "report-tls"
    assert ("Certificate", "report-tls") in found


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        ("generated", "security: must be Tls.cert_manager(), Tls.secret(...) or Tls.generated(), not 'generated'"),
        (True, "security: must be Tls.cert_manager()"),
        (Tls.secret(""), "security: must name a Secret, not ''"),
        (Tls.secret(5), "security: must name a Secret, not 5"),  # type: ignore[arg-type]
        (Tls.secret(Found("ConfigMap")), "security: must be a Secret, not the ConfigMap 'found'"),
        (Tls("own"), "security: source must be one of 'cert-manager', 'secret', 'operator', not 'own'"),  # type: ignore[arg-type]
        (Tls("cert-manager", "mine"), "security: secret_name says nothing beside source='cert-manager'"),
        (Tls("operator", "mine"), "security: secret_name says nothing beside source='operator'"),
        (Tls.cert_manager(days=0), "security: days must be a whole number from 1 to 1825, not 0"),
        (Tls.cert_manager(days=True), "security: days must be"),
        (Tls.secret("Not_A_Name"), "spec.security.tls.secretName: 'Not_A_Name' must be a DNS name"),
        (Tls.secret("x" * 254), "spec.security.tls.secretName: must have at most 253 characters"),
    ],
)
def test_mistakes_are_told_at_synth(tls: Any, told: str) -> None:
    assert any(told in line for line in errors(cluster(tls))), errors(cluster(tls))


@pytest.mark.parametrize(
    ("tls", "path"),
    [
        ({"mode": "Secret"}, "spec.security.tls.secretName: is missing"),
        ({"mode": "Generated", "secretName": "x"}, "spec.security.tls.secretName: must be left out"),
        ({"mode": "CertManager"}, "spec.security.tls.mode"),
        ({"secretName": "x"}, "spec.security.tls"),
        ({"mode": "Secret", "secretName": "a..b"}, "spec.security.tls.secretName"),
        ({"mode": "Secret", "secretName": "a", "secret": "b"}, "spec.security.tls.secret"),
    ],
)
def test_mistakes_in_manifests_are_told(tls: Any, path: str) -> None:
    manifest = {**only(cluster(None))}
    manifest["spec"] = {**manifest["spec"], "security": {"tls": tls}}
    assert any(line.startswith(path) for line in problems(manifest)), problems(manifest)


def test_the_address_of_a_cluster_says_it() -> None:
    c = chart(namespace="team")
    plain, encrypted = (
        DaskCluster(c, name, name=name, image=IMAGE, security=tls)
        for name, tls in (("plain", None), ("encrypted", Tls.generated()))
    )
    assert plain.scheduler_address == "tcp://plain-scheduler.team:8786"
    assert encrypted.scheduler_address == "tls://encrypted-scheduler.team:8786"


@pytest.mark.parametrize("security", [None, {"tls": {"mode": "Generated"}}])
def test_paths_of_the_operators_are_taken(security: Any) -> None:
    """Kubernetes would refuse each Pod, and say so of nothing that its user has written."""
    paths = ["/etc/dask-gitops-security", "/etc/dask-gitops-tls/", "/elsewhere"]
    mounts = [{"name": "data", "mountPath": path} for path in paths]
    pod = {"containers": [{"name": "x", "image": "x", "volumeMounts": mounts}], "volumes": [{"name": "data"}]}
    pod["volumes"][0]["emptyDir"] = {}  # type: ignore[index]
    spec = {"scheduler": {"spec": pod}, "worker": {"spec": pod}, "workerGroups": [{"name": "more", "spec": pod}]}
    spec |= {"security": security} if security else {}
    job = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskJob",
        "metadata": {"name": "j"},
        "spec": {"cluster": {"spec": spec}, "job": {"spec": pod}},
    }
    told = [line.partition(".spec.containers[0].volumeMounts")[::2] for line in problems(job)]
    found = {(where, rest[1]) for where, rest in told}
    of_all = {(f"spec.cluster.spec.{each}", "0") for each in ("scheduler", "worker", "workerGroups[0]")}
    with_tls = {(where, "1") for where, _ in of_all} | {("spec.job", "1")}
    assert found == (of_all | with_tls if security else of_all)
