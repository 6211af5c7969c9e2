"""What Argo CD and Flux are told; that they read it so is shown in ``tests/gitops``."""

from __future__ import annotations

from typing import Any

import cdk8s
import pytest
import yaml

from dask_constructs.gitops import (
    RESOURCE_CUSTOMIZATIONS,
    ArgoCDApplications,
    ArgoCDTenant,
    FluxKustomizations,
    FluxTenant,
    Source,
    argocd_settings,
)
from dask_crds import names
from dask_crds.model import KINDS
from dask_crds.schema import embedded_types

GIT = Source(repository="https://git.example.com/platform.git")


def synthesized(construct: type, **properties: Any) -> dict[tuple[str, str], dict[str, Any]]:
    chart = cdk8s.Testing.chart()
    construct(chart, "it", **properties)
    return {(m["kind"], m["metadata"]["name"]): m for m in cdk8s.Testing.synth(chart)}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (
            "DaskCluster",
            {
                "spec.scheduler.spec": "core/v1/PodSpec",
                "spec.scheduler.service": "core/v1/ServiceSpec",
                "spec.worker.spec": "core/v1/PodSpec",
            },
        ),
        ("DaskWorkerGroup", {"spec.worker.spec": "core/v1/PodSpec"}),
        (
            "DaskJob",
            {
                "spec.cluster.spec.scheduler.spec": "core/v1/PodSpec",
                "spec.cluster.spec.scheduler.service": "core/v1/ServiceSpec",
                "spec.cluster.spec.worker.spec": "core/v1/PodSpec",
                "spec.job.spec": "core/v1/PodSpec",
            },
        ),
        ("DaskAutoscaler", {}),
    ],
)
def test_argo_cd_knows_all_types_of_kubernetes(kind: str, fields: dict[str, str]):
    assert embedded_types(kind) == fields
    setting = argocd_settings().get(f"resource.customizations.knownTypeFields.{names.GROUP}_{kind}", "[]")
    assert {known["field"]: known["type"] for known in yaml.safe_load(setting)} == fields


def test_every_script_is_in_the_settings():
    settings = argocd_settings()
    found = set()
    for kind in KINDS:
        folder = RESOURCE_CUSTOMIZATIONS / names.GROUP / kind
        assert settings[f"resource.customizations.health.{names.GROUP}_{kind}"] == (folder / "health.lua").read_text()
        found.add(folder / "health.lua")
        actions = yaml.safe_load(settings.get(f"resource.customizations.actions.{names.GROUP}_{kind}", "{}"))
        if actions:
            assert actions["discovery.lua"] == (folder / "actions/discovery.lua").read_text()
            found.add(folder / "actions/discovery.lua")
        for action in actions.get("definitions", []):
            path = folder / "actions" / action["name"] / "action.lua"
            assert action["action.lua"] == path.read_text()
            found.add(path)
    assert found == set(RESOURCE_CUSTOMIZATIONS.rglob("*.lua"))


def test_workloads_are_in_a_project_that_cannot_extend_itself():
    made = synthesized(ArgoCDApplications, source=GIT, workload_namespaces=["data", "science"])
    project = made["AppProject", "dask"]["spec"]
    assert "clusterResourceWhitelist" not in project
    assert {kind["kind"] for kind in project["namespaceResourceBlacklist"]} >= {"Role", "RoleBinding"}
    assert [d["namespace"] for d in project["destinations"]] == ["data", "science"]
    assert made["Application", "dask-workloads"]["spec"]["project"] == "dask"


def test_crds_are_first_and_never_pruned():
    made = synthesized(ArgoCDApplications, source=GIT)
    waves = {name: int(m["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) for (_, name), m in made.items()}
    assert waves["dask-crds"] < waves["dask-operator"] < waves["dask-workloads"]
    prunes = {
        name: m["spec"]["syncPolicy"]["automated"]["prune"] for (kind, name), m in made.items() if kind == "Application"
    }
    assert prunes == {"dask-crds": False, "dask-operator": True, "dask-workloads": True}
    # Without this finalizer, deleting an Application leaves what it applied.
    assert all("finalizers" not in m["metadata"] for m in made.values())


def test_flux_applies_each_after_the_one_before():
    made = synthesized(FluxKustomizations, source=GIT)
    kustomizations = {name: m["spec"] for (kind, name), m in made.items() if kind == "Kustomization"}
    before = {name: [other["name"] for other in spec.get("dependsOn", [])] for name, spec in kustomizations.items()}
    assert before == {"dask-crds": [], "dask-operator": ["dask-crds"], "dask-workloads": ["dask-operator"]}
    assert all(spec["wait"] for spec in kustomizations.values())
    assert [name for name, spec in kustomizations.items() if not spec["prune"]] == ["dask-crds"]
    assert made["GitRepository", "dask"]["spec"]["ref"] == {"branch": "main"}


def test_flux_reads_artifacts():
    made = synthesized(FluxKustomizations, source=Source(repository="oci://registry/platform", revision="v3"))
    assert made["OCIRepository", "dask"]["spec"]["ref"] == {"tag": "v3"}
    assert made["Kustomization", "dask-crds"]["spec"]["sourceRef"] == {"kind": "OCIRepository", "name": "dask"}


def test_a_team_gets_its_folder_into_its_namespace_and_nothing_else() -> None:
    found = synthesized(ArgoCDTenant, source=GIT, tenant="data", groups=["data-team"])
    project, application = found["AppProject", "data"]["spec"], found["Application", "data"]["spec"]
    assert project["destinations"] == [{"server": "https://kubernetes.default.svc", "namespace": "data"}]
    assert "clusterResourceWhitelist" not in project, "none is allowed then"
    assert {"group": "rbac.authorization.k8s.io", "kind": "Role"} in project["namespaceResourceBlacklist"]
    assert project["roles"][0]["policies"][-1] == (
        "p, proj:data:team, applications, action/kubernetes.dask.org/*, data/*, allow"
    )
    assert (application["project"], application["source"]["path"]) == ("data", "clusters")
    assert "roles" not in synthesized(ArgoCDTenant, source=GIT, tenant="data")["AppProject", "data"]["spec"]


@pytest.mark.parametrize("repository", ["https://git.example.com/platform.git", "oci://registry.example.com/platform"])
def test_flux_applies_a_teams_folder_with_the_teams_rights(repository: str) -> None:
    found = synthesized(FluxTenant, source=Source(repository=repository), tenant="data")
    spec = found["Kustomization", "data"]["spec"]
    assert (spec["serviceAccountName"], spec["targetNamespace"]) == ("deployer", "data")
    assert found[spec["sourceRef"]["kind"], "data"]["spec"]["url"] == repository
    assert {m["metadata"]["namespace"] for m in found.values()} == {"data"}
