"""What is told of the operator's work without a cluster: the same as the operator does."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.support.states import NOW, cluster, job, observed_cluster, scheduler_pod

from dask_controller.core.actions import Apply
from dask_controller.core.cluster import plan_cluster
from dask_crds.model import DaskCluster, DaskObject, dump
from dask_synth.__main__ import main
from dask_synth.render import render

ROOT = Path(__file__).parents[2]


# --- the same as the operator -----------------------------------------------------------------------------------------


def printed(value: DaskObject) -> list[dict[str, Any]]:
    """All below a resource."""
    return list(render(dump(value), namespace="team", domain="cluster.local"))


def allowing_evictions(of: DaskCluster) -> DaskCluster:
    scheduler = msgspec.structs.replace(of.spec.scheduler, eviction_policy="Allow")
    return msgspec.structs.replace(of, spec=msgspec.structs.replace(of.spec, scheduler=scheduler))


@pytest.mark.parametrize("of", [cluster(), cluster(suspend=True), allowing_evictions(cluster())])
def test_a_cluster_consists_of_what_the_operator_makes(of: DaskCluster) -> None:
    """Once the scheduler has a Pod, if it is to have one."""
    pods = () if of.spec.suspend else (scheduler_pod(),)
    plan = plan_cluster(observed_cluster(of, scheduler_pods=pods), NOW)
    made = [action.manifest for action in plan.actions if isinstance(action, Apply)]
    owned = [child for child in printed(of) if child["metadata"]["ownerReferences"][0]["uid"] == of.uid]
    assert owned == made


def test_what_is_suspended_has_no_pods() -> None:
    """Its group keeps its size."""
    found = {child["kind"]: child for child in printed(cluster(suspend=True, replicas=3))}
    assert found.keys() == {"ConfigMap", "Service", "Deployment", "DaskWorkerGroup"}
    assert found["Deployment"]["spec"]["replicas"] == 0
    assert found["DaskWorkerGroup"]["spec"]["worker"]["replicas"] == 3
    assert {child["kind"] for child in printed(job(suspend=True))} == {"DaskCluster", *found}


# --- the command ------------------------------------------------------------------------------------------------------


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    with pytest.raises(SystemExit) as caught:
        main(["render", *arguments])
    assert not caught.value.code
    return list(yaml.safe_load_all(capsys.readouterr().out))


def test_a_job_and_all_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    children = rendered(capsys, str(ROOT / "dist/examples/dask-job.yaml"), "--namespace", "data")
    assert [(child["kind"], child["metadata"]["name"]) for child in children] == [
        ("DaskCluster", "hello"),
        ("ConfigMap", "hello-scheduler-extension"),
        ("Service", "hello-scheduler"),
        ("PodDisruptionBudget", "hello-scheduler"),
        ("Deployment", "hello-scheduler"),
        ("DaskWorkerGroup", "hello-default"),
        ("Pod", "hello-default-worker-0"),
        ("Pod", "hello-default-worker-1"),
        ("Job", "hello-runner"),
    ]
    assert {child["metadata"]["namespace"] for child in children} == {"data"}


def test_it_reads_all_documents_of_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "kind: ConfigMap\n---\n"
    monkeypatch.setattr("sys.stdin", StringIO(other + (ROOT / "dist/examples/worker-groups.yaml").read_text()))
    pods = [child["metadata"]["name"] for child in rendered(capsys, "-") if child["kind"] == "Pod"]
    assert pods == ["groups-default-worker-0", "groups-big-worker-0"]


def test_it_looks_into_lists(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `kubectl get -o yaml` prints them: nothing came out, and the exit status was 0 (public)."""
    groups = list(yaml.safe_load_all((ROOT / "dist/examples/worker-groups.yaml").read_text()))
    inner = {"apiVersion": "v1", "kind": "List", "items": [{"kind": "ConfigMap"}, groups[0]]}
    outer = {"apiVersion": "v1", "kind": "List", "items": [inner, *groups[1:], {"kind": "List", "items": None}]}
    (tmp_path / "list.yaml").write_text(yaml.safe_dump_all([outer, {"kind": "PriceList"}]))
    found = rendered(capsys, str(tmp_path / "list.yaml"))
    assert found == rendered(capsys, str(ROOT / "dist/examples/worker-groups.yaml"))


def test_it_makes_up_a_name_as_the_api_server_does(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Refused offline, accepted there (public 04)."""
    manifest = yaml.safe_load((ROOT / "dist/examples/dask-cluster.yaml").read_text())
    manifest["metadata"] = {"generateName": "mine-"}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(manifest))
    names = {child["metadata"]["name"] for child in rendered(capsys, str(tmp_path / "cluster.yaml"))}
    assert {"mine-00000-scheduler", "mine-00000-default", "mine-00000-default-worker-0"} < names


def test_it_passes_on_what_the_operator_would(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An admin may name keys that no child takes over (controller 14)."""
    manifest = yaml.safe_load((ROOT / "dist/examples/dask-cluster.yaml").read_text())
    manifest["metadata"]["labels"] = {"team": "data", "corp.example/owner": "x", "applyset.kubernetes.io/part-of": "b"}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(manifest))
    (tmp_path / "config.yaml").write_text("notInherited: [corp.example/]")
    children = rendered(capsys, str(tmp_path / "cluster.yaml"))
    assert all(child["metadata"]["labels"]["corp.example/owner"] == "x" for child in children)
    with pytest.raises(SystemExit):
        main(["--config", str(tmp_path / "config.yaml"), "render", str(tmp_path / "cluster.yaml")])
    for child in yaml.safe_load_all(capsys.readouterr().out):
        labels = child["metadata"]["labels"]
        assert labels["team"] == "data"
        assert not labels.keys() & {"corp.example/owner", "applyset.kubernetes.io/part-of"}


def test_it_refuses_what_the_api_server_would(tmp_path: Path) -> None:
    manifest = (ROOT / "dist/examples/dask-cluster.yaml").read_text().replace("worker:", "workers:")
    (tmp_path / "wrong.yaml").write_text(manifest)
    with pytest.raises(SystemExit) as caught:
        main(["render", str(tmp_path / "wrong.yaml")])
    assert "DaskCluster simple: spec.workers: unknown field, did you mean 'worker'?" in str(caught.value.code)
