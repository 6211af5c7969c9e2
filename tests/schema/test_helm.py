"""The chart as Helm reads it: the same objects as the construct writes, whatever the values are."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from tests.cluster import ControlPlane, components
from tests.support import clusters
from tests.support.checkers import documents, kubeconform_with, parsed
from tests.support.clusters import or_skip
from tests.support.constructs import Manifest, chart, synth

from dask_constructs import DaskOperator
from dask_constructs.operator import OperatorProps
from dask_synth.cli import main

DIST = Path(__file__).parents[2] / "dist"
NAME = NAMESPACE = "dask-operator"
#: Values, as keyword arguments of the construct: all of them, in combinations that have to do with one another.
VALUES: dict[str, dict[str, Any]] = {
    "hardened": {
        "namespaces": ["a", "b"],
        "metrics_namespaces": ["monitoring", "grafana"],
        "metrics_tls": "metrics-certificate",
        "api_server": ["192.0.2.7/32", "2001:db8::/64"],
        "egress": [{"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 53, "protocol": "UDP"}]}],
        "host_users": False,
    },
    "placed": {
        "image": "registry.example.com/team/operator:1@sha256:" + "5" * 64,
        "image_pull_secrets": ["one", "two"],
        "replicas": 1,
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}},
        "priority_class": "system-cluster-critical",
        "node_selector": {"pool": "system", "spot": "false"},
        "tolerations": [{"key": "system", "operator": "Exists"}, {"key": "1", "value": "yes", "effect": "NoSchedule"}],
        "queues": False,
        "cluster_domain": "k8s.example.com",
        "not_inherited": ["corp.example/", 'odd"%/'],
        "args": ["--workers=20", "--log-level=debug"],
        "limits": {"workers": 40, "by": "owner", "namespaces": {"big-1": {"workers": "none", "jobs": 2}}},
        "metrics_namespaces": ["monitoring"],
    },
    "guests": {
        "namespaces": ["a"],
        "crds": False,
        "aggregated_roles": False,
        "confined": False,
        "queues": True,
        "egress": [{"to": [{"namespaceSelector": {}}]}],
    },
}
Helm = Callable[..., str]


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("helm") / NAME
    with pytest.raises(SystemExit) as ended:
        main(["helm", str(directory)])
    assert ended.value.code == 0
    for name, values in VALUES.items():
        (directory.parent / f"{name}.yaml").write_text(yaml.safe_dump({camel(k): v for k, v in values.items()}))
    return directory


@pytest.fixture(scope="module")
def helm(folder: Path) -> Helm:
    with or_skip("Helm"):
        program = components.ensure(["helm"])["helm"]

    def run(*arguments: str, kubeconfig: str = "none", namespace: str = NAMESPACE) -> str:
        environment = {"HOME": str(folder.parent), "KUBECONFIG": kubeconfig}
        command = [str(program), *arguments, "--namespace", namespace]
        done = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def rendered(helm: Helm, *arguments: str) -> dict[tuple[str, ...], Manifest]:
    return by_identity(parsed(helm("template", NAME, NAME, *arguments)))


def by_identity(manifests: list[Manifest]) -> dict[tuple[str, ...], Manifest]:
    found = {(m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]): m for m in manifests}
    assert len(found) == len(manifests)
    return found


# --- what it installs -------------------------------------------------------------------------------------------------


def test_the_defaults_are_what_dist_holds(helm: Helm) -> None:
    """But for the namespace, which Helm makes itself; where it should not, it is part of the chart."""
    dist = by_identity(documents(DIST / "install.yaml"))
    assert rendered(helm, "--set", "createNamespace=true") == dist
    del dist["Namespace", "", NAMESPACE]
    assert rendered(helm) == dist


@pytest.mark.parametrize("name", VALUES)
def test_with_other_values_it_is_what_the_construct_makes(helm: Helm, name: str) -> None:
    c = chart()
    DaskOperator(c, "operator", **{"create_namespace": False, **VALUES[name]})
    assert rendered(helm, "--values", f"{name}.yaml") == by_identity(synth(c))


def test_what_the_construct_takes_are_the_values_and_each_is_among_those(folder: Path) -> None:
    taken = {camel(name) for name in get_type_hints(OperatorProps)} - {"namespace"}  # which is that of the release
    tried = {camel(name) for values in VALUES.values() for name in values} | {"createNamespace"}
    assert yaml.safe_load((folder / "values.yaml").read_text()).keys() == taken == tried


def test_in_another_namespace_nothing_is_in_the_usual_one(helm: Helm) -> None:
    c = chart()
    DaskOperator(c, "operator", namespace="elsewhere", create_namespace=False, metrics_tls="certificate")
    text = helm("template", NAME, NAME, "--set", "metricsTls=certificate", namespace="elsewhere")
    assert by_identity(parsed(text)) == by_identity(synth(c))


# --- what others say of it --------------------------------------------------------------------------------------------


def test_helm_finds_no_fault(helm: Helm) -> None:
    for name in ("", *VALUES):
        told = helm("lint", "--strict", NAME, *(["--values", f"{name}.yaml"] if name else []))
        assert "0 chart(s) failed" in told
        assert "WARNING" not in told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("replicas=-1", "minimum"),
        ("replicas=many", "integer"),
        ("namespaces=a", "array"),
        ("namespaces={A_b}", "pattern"),
        ("metrics_tls=a", "additional properties"),
        ("confined=null", "missing property"),
        ("apiServer={192.0.2.7}", "pattern"),
    ],
)
def test_mistakes_are_told_before_anything_is_applied(helm: Helm, value: str, told: str) -> None:
    with pytest.raises(AssertionError) as refused:
        rendered(helm, "--set", value)
    assert told in str(refused.value)
    assert value.partition("=")[0] in str(refused.value)


def test_kubeconform(helm: Helm, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    kubeconform = kubeconform_with(tmp_path / "schemas")
    for name in VALUES:
        (tmp_path / f"{name}.yaml").write_text(helm("template", NAME, NAME, "--values", f"{name}.yaml"))
    report = kubeconform(*(tmp_path / f"{name}.yaml" for name in VALUES))
    assert report.get("resources", []) == []
    assert report["summary"]["valid"] == sum(len(documents(tmp_path / f"{name}.yaml")) for name in VALUES)


# --- at an API server -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def empty() -> Iterator[ControlPlane]:
    """A control plane of its own, without our CRDs: these are Helm's here."""
    with clusters.control_plane(crds=None) as plane:
        for name in ("a", "b"):
            plane.kubectl("create", "namespace", name)
        yield plane


@pytest.mark.control_plane
def test_it_is_installed_upgraded_and_removed(helm: Helm, empty: ControlPlane) -> None:
    """All of it fits into the Secret in which Helm keeps a release, 1 MiB; the CRDs stay."""
    kubeconfig = str(empty.kubeconfig)
    helm("install", NAME, NAME, "--create-namespace", kubeconfig=kubeconfig)
    empty.kubectl("apply", "--namespace=a", "-f", str(DIST / "examples/dask-cluster.yaml"))
    for name in VALUES:
        helm("upgrade", NAME, NAME, "--values", f"{name}.yaml", "--dry-run=server", kubeconfig=kubeconfig)
    helm("upgrade", NAME, NAME, "--values", "hardened.yaml", kubeconfig=kubeconfig)
    arguments = "{.spec.template.spec.containers[0].args}"
    stated = empty.kubectl("get", "deployment", NAME, f"--namespace={NAMESPACE}", f"--output=jsonpath={arguments}")
    assert {"--namespace=a", "--namespace=b"} <= set(json.loads(stated))
    assert "clusterrole.rbac.authorization.k8s.io/dask-operator\n" not in empty.kubectl("get", "clusterrole", "-o=name")
    helm("uninstall", NAME, kubeconfig=kubeconfig)
    assert "dask-operator" not in empty.kubectl("get", "deployment", "--all-namespaces", "--output=name")
    assert "simple" in empty.kubectl("get", "daskclusters", "--namespace=a", "--output=name")
