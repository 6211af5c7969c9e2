"""What Argo CD is told; that it reads it so is shown in ``tests/gitops``."""

from __future__ import annotations

import pytest
import yaml
from tests.support.constructs import GIT, synthesized

from dask_constructs import ArgoCDApplications, ArgoCDTenant
from dask_constructs.argocd import RESOURCE_CUSTOMIZATIONS, argocd_settings
from dask_crds import names
from dask_crds.model import KINDS
from dask_crds.schema import embedded_types


@pytest.mark.parametrize("kind", KINDS)
def test_argo_cd_knows_all_types_of_kubernetes(kind: str):
    setting = argocd_settings().get(f"resource.customizations.knownTypeFields.{names.GROUP}_{kind}", "[]")
    assert {known["field"]: known["type"] for known in yaml.safe_load(setting)} == {
        path.replace("[]", ""): type for path, type in embedded_types(kind).items()
    }


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
    allowed = {kind["kind"] for kind in project["namespaceResourceWhitelist"]}
    assert {"DaskCluster", "DaskJob", "Pod", "ReplicaSet", "Deployment", "Job", "CronJob", "ConfigMap"} <= allowed
    # (security finding 10) Of a list of what is forbidden, a network plugin's own kinds were none.
    assert not allowed & {"Role", "RoleBinding", "NetworkPolicy", "CiliumNetworkPolicy", "ResourceQuota", "LimitRange"}
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


def test_a_team_gets_its_folder_into_its_namespace_and_nothing_else() -> None:
    found = synthesized(ArgoCDTenant, source=GIT, tenant="data", groups=["data-team"])
    project, application = found["AppProject", "data"]["spec"], found["Application", "data"]["spec"]
    assert project["destinations"] == [{"server": "https://kubernetes.default.svc", "namespace": "data"}]
    assert "clusterResourceWhitelist" not in project, "none is allowed then"
    assert {"group": "rbac.authorization.k8s.io", "kind": "Role"} not in project["namespaceResourceWhitelist"]
    assert project["roles"][0]["policies"][-1] == (
        "p, proj:data:team, applications, action/kubernetes.dask.org/*, data/*, allow"
    )
    assert (application["project"], application["source"]["path"]) == ("data", "clusters")
    assert "roles" not in synthesized(ArgoCDTenant, source=GIT, tenant="data")["AppProject", "data"]["spec"]
