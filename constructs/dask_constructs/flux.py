"""How Flux applies CRDs, operator and workloads from Git."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Required, TypedDict, Unpack

from constructs import Construct

from .manifest import api_object
from .resource import DaskConstruct
from .source import NO_SOURCE, Source, SourceValue
from .values import Namespace, Text

#: Longer than the ten minutes after which the operator says of something that it will not get better by itself.
_PATIENCE = "15m"


class FluxKustomizationsProps(TypedDict, total=False):
    """Keyword arguments of ``FluxKustomizations``."""

    source: Required[SourceValue]
    """Where the manifests are."""
    namespace: Namespace | None
    """Namespace of Flux (default ``flux-system``)."""


class FluxKustomizations(DaskConstruct):
    """CRDs, operator and workloads as three Kustomizations, each applied when the one before is ready.

    ``wait`` needs no ``healthCheckExprs``: statuses are as kstatus reads them, from the first moment on.

    Args:
        props: see ``FluxKustomizationsProps``.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[FluxKustomizationsProps]) -> None:
        super().__init__(scope, id)
        options = self._accepted(props, FluxKustomizationsProps)
        source: Source = options.get("source", NO_SOURCE)
        parts = _Flux(self, source, name="dask", namespace=options.get("namespace", "flux-system"))
        parts.kustomization("dask-crds", source.folder("crds"), prune=False)
        parts.kustomization("dask-operator", source.folder("operator"), dependsOn=[{"name": "dask-crds"}])
        # When it is removed, its workloads are, while the operator can still look after them.
        parts.kustomization(
            "dask-workloads",
            source.workloads,
            deletionPolicy="WaitForTermination",
            dependsOn=[{"name": "dask-operator"}],
        )


class FluxTenantProps(TypedDict, total=False):
    """Keyword arguments of ``FluxTenant``."""

    source: Required[SourceValue]
    """Where the manifests are; ``workloads`` is the team's folder."""
    tenant: Required[Namespace]
    """The team's namespace."""
    deployer: Text | None
    """The ServiceAccount there, see ``DaskTenant`` (default ``deployer``)."""


class FluxTenant(DaskConstruct):
    """A team's source and Kustomization in the team's namespace, applied with the rights of its ServiceAccount.

    Args:
        props: see ``FluxTenantProps``.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[FluxTenantProps]) -> None:
        super().__init__(scope, id)
        options = self._accepted(props, FluxTenantProps)
        source: Source = options.get("source", NO_SOURCE)
        tenant, deployer = options.get("tenant", ""), options.get("deployer", "deployer")
        parts = _Flux(self, source, name=tenant, namespace=tenant)
        parts.kustomization(tenant, source.workloads, serviceAccountName=deployer, targetNamespace=tenant)


class _Flux:
    """What fetches the manifests, and the Kustomizations of its folders."""

    def __init__(self, scope: Construct, source: Source, *, name: str, namespace: str) -> None:
        kind, reference = ("OCIRepository", "tag") if source.is_artifact else ("GitRepository", "branch")
        self._scope, self._namespace = scope, namespace
        self._source = {"kind": kind, "name": name}
        spec = {"interval": "1m", "url": source.repository, "ref": {reference: source.revision}}
        self._object("source.toolkit.fluxcd.io/v1", kind, name, spec)

    def kustomization(self, name: str, path: str, *, prune: bool = True, **more: Any) -> None:
        spec = {
            "interval": "10m",
            "retryInterval": "1m",
            "timeout": _PATIENCE,
            "sourceRef": self._source,
            "path": f"./{path}",
            "prune": prune,
            "wait": True,
            **more,
        }
        self._object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", name, spec)

    def _object(self, api_version: str, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        metadata = {"name": name, "namespace": self._namespace}
        manifest = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
        api_object(self._scope, f"{kind}-{name}", manifest)
