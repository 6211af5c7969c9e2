"""What Flux is told; that it reads it so is shown in ``tests/gitops``."""

from __future__ import annotations

import pytest
from tests.support.constructs import GIT, synthesized

from dask_constructs import FluxKustomizations, FluxTenant, Source


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


@pytest.mark.parametrize("repository", ["https://git.example.com/platform.git", "oci://registry.example.com/platform"])
def test_flux_applies_a_teams_folder_with_the_teams_rights(repository: str) -> None:
    found = synthesized(FluxTenant, source=Source(repository=repository), tenant="data")
    spec = found["Kustomization", "data"]["spec"]
    assert (spec["serviceAccountName"], spec["targetNamespace"]) == ("deployer", "data")
    assert found[spec["sourceRef"]["kind"], "data"]["spec"]["url"] == repository
    assert {m["metadata"]["namespace"] for m in found.values()} == {"data"}
