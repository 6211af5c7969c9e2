"""What ``dist/`` holds.

One cdk8s app per folder, each with flat charts that do not depend on each other: as soon as charts depend on one
another cdk8s numbers all files, and every new chart renames the rest. Order is a matter of sync waves (Argo CD) and
``dependsOn`` (Flux).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

import dask_constructs  # noqa: F401 - first of all, so that jsii finds Node.js

# isort: split
from cdk8s import App, Chart, YamlOutputType

from dask_constructs import (
    ArgoCDApplications,
    ArgoCDSettings,
    ArgoCDTenant,
    DaskActivator,
    DaskCustomResourceDefinitions,
    DaskMonitoring,
    DaskOperator,
    DaskTenant,
    FluxKustomizations,
    FluxTenant,
    Source,
)
from dask_crds import names
from dask_crds.model import KINDS
from dask_crds.schema import json_schema

from .config import Configuration
from .examples import examples, queues


def write(directory: Path, configuration: Configuration) -> None:
    """Write everything into an empty directory.

    Raises:
        RuntimeError: constructs found mistakes; the message lists them all. Folders written before it stay.
    """
    _crds(directory / "crds")
    _operator(directory / "operator", configuration)
    _operator(directory / "operator-namespaced", configuration, namespaces=configuration.namespaces)
    _activator(directory / "activator", configuration)
    _examples(directory / "examples", configuration)
    _queues(directory / "queues", configuration)
    _argocd(directory / "argocd", configuration)
    _flux(directory / "flux", configuration)
    _tenant(directory / "tenant", configuration)
    _monitoring(directory / "monitoring", configuration)
    _bundle(directory, configuration)
    kustomization(directory, ["crds", "operator"])
    schemas(directory / "schemas")


def _crds(directory: Path) -> None:
    app = _app(directory, YamlOutputType.FILE_PER_RESOURCE)
    DaskCustomResourceDefinitions(Chart(app, "crds"), "crds")
    app.synth()
    kustomization(directory)


def _operator(directory: Path, configuration: Configuration, namespaces: Sequence[str] | None = None) -> None:
    app = _app(directory)
    _dask_operator(Chart(app, "operator"), configuration, namespaces=namespaces, crds=False)
    app.synth()
    kustomization(directory)


def _activator(directory: Path, configuration: Configuration) -> None:
    """An option: it wakes clusters when somebody connects to them."""
    app = _app(directory)
    DaskActivator(
        Chart(app, "activator"),
        "activator",
        image=configuration.image,
        namespace=configuration.namespace,
        priority_class=configuration.priority_class,
        image_pull_secrets=configuration.image_pull_secrets,
    )
    app.synth()
    kustomization(directory)


def _examples(directory: Path, configuration: Configuration) -> None:
    app = _app(directory)
    examples(app, configuration.example_image)
    app.synth()
    kustomization(directory)


def _queues(directory: Path, configuration: Configuration) -> None:
    """Beside the examples, which work where there is no Kueue."""
    app = _app(directory)
    queues(app, configuration.example_image)
    app.synth()
    kustomization(directory)


def _argocd(directory: Path, configuration: Configuration) -> None:
    """Projects and Applications; and, as a component for the kustomization that installs Argo CD, its settings."""
    app = _app(directory)
    ArgoCDApplications(
        Chart(app, "applications"),
        "applications",
        source=_source(configuration),
        workload_namespaces=configuration.namespaces,
        operator_namespace=configuration.namespace,
    )
    app.synth()
    kustomization(directory)
    settings = directory / "settings"
    app = _app(settings)
    ArgoCDSettings(Chart(app, "argocd-cm"), "settings")
    app.synth()
    component = {"kind": "Component", "patches": [{"path": "argocd-cm.yaml"}]}
    _write_kustomization(settings, {"apiVersion": "kustomize.config.k8s.io/v1alpha1", **component})


def _flux(directory: Path, configuration: Configuration) -> None:
    app = _app(directory)
    FluxKustomizations(Chart(app, "dask"), "flux", source=_source(configuration))
    app.synth()
    kustomization(directory)


def _tenant(directory: Path, configuration: Configuration) -> None:
    """An example of a team's namespace; and how each of the two tools applies the team's folder to it."""
    name, group = "analytics", "data-engineers"
    source = replace(_source(configuration), workloads=f"teams/{name}")
    app = _app(directory)
    DaskTenant(
        Chart(app, "tenant"),
        "tenant",
        namespace=name,
        quota={"requests.cpu": "64", "requests.memory": "256Gi", "pods": "200"},
        groups=[group],
        client_namespaces=["notebooks"],
        operator_namespace=configuration.namespace,
    )
    app.synth()
    kustomization(directory)
    argocd, flux = directory.with_name("tenant-argocd"), directory.with_name("tenant-flux")
    app = _app(argocd)
    ArgoCDTenant(Chart(app, name), "argocd", source=source, tenant=name, groups=[group])
    app.synth()
    kustomization(argocd)
    app = _app(flux)
    FluxTenant(Chart(app, name), "flux", source=source, tenant=name)
    app.synth()
    kustomization(flux)


def _monitoring(directory: Path, configuration: Configuration) -> None:
    app = _app(directory)
    DaskMonitoring(
        Chart(app, "monitoring"),
        "monitoring",
        namespace=configuration.namespace,
        metrics_tls=configuration.metrics_tls,
        labels=configuration.monitoring_labels,
    )
    app.synth()
    kustomization(directory)


def _source(configuration: Configuration) -> Source:
    return Source(
        repository=configuration.repository,
        revision=configuration.revision,
        manifests=configuration.manifests,
        workloads=configuration.workloads,
    )


def _bundle(directory: Path, configuration: Configuration) -> None:
    """CRDs and operator in one file, for ``kubectl apply -f``."""
    app = _app(directory)
    _dask_operator(Chart(app, "install"), configuration)
    app.synth()


def schemas(directory: Path) -> None:
    """JSON schemas where kubeconform and editors look for them: ``{{.Group}}/{{.ResourceKind}}_{{.Version}}.json``."""
    folder = directory / names.GROUP
    folder.mkdir(parents=True)
    for kind in KINDS:
        path = folder / f"{kind.lower()}_{names.VERSION}.json"
        path.write_text(json.dumps(json_schema(kind), indent=1) + "\n")


def _app(directory: Path, output: YamlOutputType = YamlOutputType.FILE_PER_CHART) -> App:
    return App(outdir=str(directory), output_file_extension=".yaml", yaml_output_type=output)


def _dask_operator(
    chart: Chart, configuration: Configuration, *, namespaces: Sequence[str] | None = None, crds: bool = True
) -> None:
    DaskOperator(
        chart,
        "operator",
        image=configuration.image,
        namespace=configuration.namespace,
        namespaces=namespaces,
        crds=crds,
        replicas=configuration.replicas,
        cluster_domain=configuration.cluster_domain,
        not_inherited=configuration.not_inherited,
        priority_class=configuration.priority_class,
        image_pull_secrets=configuration.image_pull_secrets,
        metrics_namespaces=configuration.metrics_namespaces,
        metrics_tls=configuration.metrics_tls,
    )


def kustomization(directory: Path, resources: Iterable[str] | None = None) -> None:
    """A kustomization of ``resources``, else of all files in the directory."""
    listed = sorted(path.name for path in directory.glob("*.yaml")) if resources is None else list(resources)
    manifest: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": listed,
    }
    _write_kustomization(directory, manifest)


def _write_kustomization(directory: Path, manifest: dict[str, Any]) -> None:
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
