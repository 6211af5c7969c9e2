"""What Argo CD has to know of Dask resources, and how it applies CRDs, operator and workloads from Git."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Required, TypedDict, Unpack

import yaml
from constructs import Construct
from msgspec import Meta

from dask_crds import names
from dask_crds.kinds import RESOURCES
from dask_crds.model import KINDS
from dask_crds.schema import embedded_types

from .manifest import api_object
from .rbac import CERT_MANAGER_GROUP, RBAC_GROUP
from .resource import DaskConstruct
from .security import CERT_MANAGER_KINDS
from .source import NO_SOURCE, Source, SourceValue, sync_wave
from .values import Namespace, Text

#: Health checks and actions, laid out as in Argo CD's repository.
RESOURCE_CUSTOMIZATIONS = Path(__file__).parent / "resource_customizations"

_THIS_CLUSTER = "https://kubernetes.default.svc"
#: What teams may bring along, and what is made of it, which Argo CD would not show else. What isolates a namespace is
#: its owner's to decide, in whatever kind a network plugin or a policy engine has it.
_TEAM_KINDS = [
    *({"group": row.group, "kind": kind} for kind, row in RESOURCES.items() if row.namespaced and kind != "Lease"),
    *({"group": "", "kind": kind} for kind in ("PersistentVolumeClaim", "ServiceAccount")),
    {"group": "batch", "kind": "CronJob"},
    *({"group": CERT_MANAGER_GROUP, "kind": kind} for kind in CERT_MANAGER_KINDS),
]


class ArgoCDSettingsProps(TypedDict, total=False):
    """Keyword arguments of ``ArgoCDSettings``."""

    namespace: Namespace | None
    """Namespace of Argo CD (default ``argocd``)."""


class ArgoCDSettings(DaskConstruct):
    """The part of the ConfigMap ``argocd-cm`` that is about Dask: health, actions, and embedded types.

    It is a patch: apply it with server-side apply, or as a patch of kustomize, to the ConfigMap that there is.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[ArgoCDSettingsProps]) -> None:
        """Declare it with the keyword arguments of ``ArgoCDSettingsProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, ArgoCDSettingsProps)
        metadata = {
            "name": "argocd-cm",
            "namespace": options.get("namespace", "argocd"),
            "labels": {"app.kubernetes.io/name": "argocd-cm", "app.kubernetes.io/part-of": "argocd"},
        }
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": argocd_settings()}
        api_object(self, "Resource", manifest)


def argocd_settings() -> dict[str, str]:
    """Settings of Argo CD for the Dask kinds, by their keys in ``argocd-cm``."""
    settings: dict[str, str] = {}
    for kind in KINDS:
        folder = RESOURCE_CUSTOMIZATIONS / names.GROUP / kind
        settings[f"resource.customizations.health.{names.GROUP}_{kind}"] = (folder / "health.lua").read_text()
        if actions := _actions(folder / "actions"):
            settings[f"resource.customizations.actions.{names.GROUP}_{kind}"] = actions
        if fields := embedded_types(kind):  # knowing them, Argo CD takes a CPU of `0.1` and one of `100m` for the same
            # It looks into lists by itself.
            known = [{"field": field.replace("[]", ""), "type": type} for field, type in fields.items()]
            key = f"resource.customizations.knownTypeFields.{names.GROUP}_{kind}"
            settings[key] = yaml.safe_dump(known, sort_keys=False)
    return settings


def _actions(folder: Path) -> str:
    scripts = sorted(folder.glob("*/action.lua"))
    if not scripts:
        return ""
    definitions = [{"name": path.parent.name, "action.lua": _Script(path.read_text())} for path in scripts]
    actions = {"discovery.lua": _Script((folder / "discovery.lua").read_text()), "definitions": definitions}
    return yaml.dump(actions, Dumper=_Dumper, sort_keys=False)


class _Script(str):
    """A text of many lines, written as such."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Script, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, "|"))


class _Common(TypedDict, total=False):
    source: Required[SourceValue]
    """Where the manifests are."""
    server: Text | None
    """URL of the API server of the cluster (default: the one that Argo CD runs in)."""
    namespace: Namespace | None
    """Namespace of Argo CD (default ``argocd``)."""


class ArgoCDApplicationsProps(_Common, total=False):
    """Keyword arguments of ``ArgoCDApplications``."""

    workload_namespaces: Annotated[Sequence[Namespace], Meta(min_length=1)] | None
    """Namespaces for workloads; the first is that of manifests which name none (default: ``default``)."""
    operator_namespace: Namespace | None
    """Where the operator runs (default ``dask-operator``)."""
    tenants: Sequence[Namespace] | None
    """Namespaces that are set up beside the operator, see ``DaskTenant``."""


class ArgoCDApplications(DaskConstruct):
    """CRDs, operator and workloads as three Applications, in two projects.

    Workloads are in a project of their own, which can neither extend the cluster nor its namespaces' permissions.
    The CRDs are in an Application of their own, which never prunes: with them all Dask resources would go.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[ArgoCDApplicationsProps]) -> None:
        """Declare it with the keyword arguments of ``ArgoCDApplicationsProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, ArgoCDApplicationsProps)
        source: Source = options.get("source", NO_SOURCE)
        self._namespace: str = options.get("namespace", "argocd")
        self._source = source
        self._server = options.get("server", _THIS_CLUSTER)
        workload_namespaces = options.get("workload_namespaces", ("default",))
        operator_namespace = options.get("operator_namespace", "dask-operator")
        cluster_kinds = [
            {"group": "apiextensions.k8s.io", "kind": "CustomResourceDefinition"},
            {"group": "", "kind": "Namespace"},
            {"group": RBAC_GROUP, "kind": "ClusterRole"},
            {"group": RBAC_GROUP, "kind": "ClusterRoleBinding"},
            {"group": "admissionregistration.k8s.io", "kind": "ValidatingAdmissionPolicy"},
            {"group": "admissionregistration.k8s.io", "kind": "ValidatingAdmissionPolicyBinding"},
        ]
        self._project(
            "dask-operator",
            "Dask's CRDs and operator",
            [operator_namespace, *options.get("tenants", ())],
            clusterResourceWhitelist=cluster_kinds,
        )
        rules = {"namespaceResourceWhitelist": _TEAM_KINDS}
        self._project("dask", "Dask clusters and jobs", workload_namespaces, **rules)
        operator = ("dask-operator", operator_namespace)
        server_side = ["ServerSideApply=true"]
        self._application("dask-crds", source.folder("crds"), *operator, order=-2, prune=False, options=server_side)
        self._application("dask-operator", source.folder("operator"), *operator, order=-1, options=server_side)
        # The first time, CRDs may not be there yet.
        missing = ["SkipDryRunOnMissingResource=true"]
        self._application("dask-workloads", source.workloads, "dask", workload_namespaces[0], order=0, options=missing)

    def _project(self, name: str, description: str, namespaces: Sequence[str], **rules: Any) -> None:
        destinations = [{"server": self._server, "namespace": namespace} for namespace in namespaces]
        spec = {"description": description, "sourceRepos": [self._source.repository], "destinations": destinations}
        _argocd_object(self, "AppProject", name, self._namespace, {**spec, **rules}, sync_wave(-3))

    def _application(
        self,
        name: str,
        path: str,
        project: str,
        namespace: str,
        *,
        order: int,
        options: Sequence[str],
        prune: bool = True,
    ) -> None:
        spec = {
            "project": project,
            "source": _argocd_source(self._source, path),
            "destination": {"server": self._server, "namespace": namespace},
            "syncPolicy": {
                "automated": {"prune": prune, "selfHeal": True},
                "syncOptions": list(options),
                "retry": {"limit": 10, "backoff": {"duration": "10s", "factor": 2, "maxDuration": "3m"}},
            },
        }
        _argocd_object(self, "Application", name, self._namespace, spec, sync_wave(order))


class ArgoCDTenantProps(_Common, total=False):
    """Keyword arguments of ``ArgoCDTenant``."""

    tenant: Required[Namespace]
    """The team's namespace, and the name of the project."""
    groups: Sequence[Text] | None
    """Groups of users who may look at the team's applications, sync them, and use the Dask actions."""


class ArgoCDTenant(DaskConstruct):
    """A team's AppProject, and an Application of its folder: what a team may take from where, and put where.

    ``workloads`` of the source is the team's folder.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[ArgoCDTenantProps]) -> None:
        """Declare it with the keyword arguments of ``ArgoCDTenantProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, ArgoCDTenantProps)
        source: Source = options.get("source", NO_SOURCE)
        tenant, groups = options.get("tenant", ""), options.get("groups", ())
        namespace = options.get("namespace", "argocd")
        rights = ("get", "sync", f"action/{names.GROUP}/*")
        role = {
            "name": "team",
            "groups": list(groups),
            "policies": [f"p, proj:{tenant}:team, applications, {right}, {tenant}/*, allow" for right in rights],
        }
        destination = {"server": options.get("server", _THIS_CLUSTER), "namespace": tenant}
        project = {
            "description": f"What team {tenant} runs",
            "sourceRepos": [source.repository],
            "destinations": [destination],
            "namespaceResourceWhitelist": _TEAM_KINDS,
            **({"roles": [role]} if groups else {}),
        }
        application = {
            "project": tenant,
            "source": _argocd_source(source, source.workloads),
            "destination": destination,
            "syncPolicy": {"automated": {"prune": True, "selfHeal": True}},
        }
        _argocd_object(self, "AppProject", tenant, namespace, project)
        _argocd_object(self, "Application", tenant, namespace, application)


def _argocd_source(source: Source, path: str) -> dict[str, str]:
    """``spec.source`` of an Application."""
    return {"repoURL": source.repository, "targetRevision": source.revision, "path": path}


def _argocd_object(
    scope: Construct,
    kind: str,
    name: str,
    namespace: str,
    spec: Mapping[str, Any],
    annotations: Mapping[str, str] | None = None,
) -> None:
    metadata = {"name": name, "namespace": namespace, **({"annotations": annotations} if annotations else {})}
    manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
    api_object(scope, f"{kind}-{name}", manifest)
