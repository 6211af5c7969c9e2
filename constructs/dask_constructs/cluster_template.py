"""A template of clusters: one that sleeps in Git, and the policy that bounds what others make from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Required, TypedDict, Unpack

from constructs import Construct

from dask_crds import names

from . import rbac, template_policy
from .admission import with_binding
from .cluster import DaskCluster
from .manifest import api_object, cluster_scoped
from .options import ClusterOptions
from .rbac import RBAC_GROUP
from .resource import DaskConstruct, Metadata
from .tenant import Account
from .values import Text, Workers

#: Longest name of a template: of a cluster from it a dash and five characters follow.
_MAX_NAME = names.MAX_CLUSTER_NAME - 6


class _Bounds(TypedDict, total=False):
    maximum_workers: Required[Workers]
    """Greatest number of workers of a group of each cluster that is made from the template."""
    users: Sequence[Text | Account] | None
    """Who may make clusters from it: groups of users by their names, ServiceAccounts as
    ``{"name": "ada", "namespace": "jupyterhub"}`` (default: who has the right by other means)."""


class TemplateProps(_Bounds, ClusterOptions, Metadata, total=False):
    """Keyword arguments of ``DaskClusterTemplate``."""

    image: Required[Text]
    """Container image with dask and distributed, for scheduler and workers."""


class DaskClusterTemplate(DaskConstruct):
    """A DaskCluster that sleeps, from which those may make clusters who may not create Pods, each for themselves.

    >>> DaskClusterTemplate(chart, "gpu", name="gpu-small", namespace="team", image=IMAGE, memory="8Gi",
    ...                     maximum_workers=8, no_client_timeout=600, users=["researchers"])

    The API server holds them to it (ValidatingAdmissionPolicy, with the template as its parameter): the same Pods, no
    more workers than ``maximum_workers``, timeouts that are no longer, and the name of who asks as owner.

    Attributes:
        cluster: the sleeping cluster.
    """

    cluster: DaskCluster

    def __init__(self, scope: Construct, id: str, **props: Unpack[TemplateProps]) -> None:
        """Declare it with the keyword arguments of ``TemplateProps``, where each is explained."""
        super().__init__(scope, id)
        own = {name: value for name, value in props.items() if name in _Bounds.__annotations__}
        options = self._accepted(own, _Bounds)
        others: Any = {name: value for name, value in props.items() if name not in own}
        self.cluster = DaskCluster(self, "cluster", **others, suspend=True)
        self._namespace = self.cluster.namespace
        if self.namespace is None:
            self._mistakes.append("namespace: is needed, as a policy is about the clusters of a namespace")
        if len(self.cluster.name) > _MAX_NAME:
            self._mistakes.append(
                f"name: must have at most {_MAX_NAME} characters, as those of its clusters are longer"
            )
        if not self._mistakes:
            self._policies(options["maximum_workers"])
            self._grant(options.get("users", ()))

    @property
    def name(self) -> str:
        """Name of the template."""
        return self.cluster.name

    def _policies(self, maximum: int) -> None:
        namespace = self.namespace or ""
        name = f"dask-template-{namespace}-{self.name}"
        metadata = self.cluster.api_object.to_json()["metadata"]
        pods, binding = with_binding(f"{name}-same", template_policy.same(self.name, namespace, metadata))
        binding["spec"] |= template_policy.binding_of_same(self.name, namespace)
        used = with_binding(f"{name}-use", template_policy.use(self.name, namespace, maximum))
        for manifest in (*used, pods, binding):
            cluster_scoped(self, f"{manifest['kind']}-{manifest['metadata']['name']}", manifest)

    def _grant(self, users: Sequence[str | Mapping[str, str]]) -> None:
        if not users:
            return
        metadata = {"name": f"dask-template-{self.name}", "namespace": self.namespace}
        api = {"apiVersion": f"{RBAC_GROUP}/v1", "metadata": metadata}
        role = {**api, "kind": "Role", "rules": rbac.rules(rbac.template_user(self.name))}
        api_object(self, "role", role)
        reference = {"apiGroup": RBAC_GROUP, "kind": "Role", "name": metadata["name"]}
        subjects = [_subject(user) for user in users]
        api_object(self, "binding", {**api, "kind": "RoleBinding", "roleRef": reference, "subjects": subjects})


def _subject(user: str | Mapping[str, str]) -> dict[str, Any]:
    if isinstance(user, str):
        return {"kind": "Group", "name": user, "apiGroup": RBAC_GROUP}
    return {"kind": "ServiceAccount", **user}
