"""What Dask resources may ask for in a shared cluster, checked by the API server itself (ValidatingAdmissionPolicy).

The operator makes Pods for whoever may create Dask resources. Without these rules that right is as much as the right to
create any Pod of the namespace, under any of its ServiceAccounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

from constructs import Construct

from dask_crds.kinds import DASK_KINDS
from dask_crds.schema import embedded_types

from .admission import (
    CONTAINERS,
    MAY_CREATE_PODS,
    MAY_USE_TEMPLATE,
    ONLY_SUSPENDS,
    Rule,
    constraints,
    embedded,
    images_from,
    rule,
    text,
    texts,
    with_binding,
)
from .keywords import Options
from .manifest import cluster_scoped
from .resource import DaskConstruct
from .values import Text

#: What restricted Pod security lets Pods mount, but for CSI volumes, by which a driver may hand out anything.
VOLUMES = ("configMap", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret")
_ENFORCED = "pod-security.kubernetes.io/enforce"


class GuardrailProps(TypedDict, total=False):
    """Keyword arguments of ``DaskGuardrails``."""

    service_accounts: Sequence[Text] | None
    """ServiceAccounts that Pods may have besides ``default``, and whose tokens they may mount (default: none)."""
    service_types: Sequence[Literal["ClusterIP", "NodePort", "LoadBalancer"]] | None
    """Types of a scheduler's Service (default: ``ClusterIP`` alone)."""
    volumes: Sequence[Text] | None
    """Sources of volumes, by their field in a Pod (default: those of restricted Pod security, but for ``csi``)."""
    image_registries: Sequence[Text] | None
    """Beginnings of images, of image volumes too, ``registry.example.com/data`` say (default: any image). Each ends
    where a part of an image's name does: ``registry.example.com`` is not ``registry.example.com.evil.io``."""
    starters: Sequence[Text] | None
    """Users who may create DaskJobs though they may not create Pods, ``system:serviceaccount:team:dask-job-starter``
    say, as long as the job's Pods have the ServiceAccount ``default`` and no Secret (default: none)."""
    pod_security: Sequence[Literal["privileged", "baseline", "restricted"]] | None
    """Levels of Pod security of which the namespace must enforce one (default: ``baseline`` or ``restricted``)."""
    namespace_labels: Mapping[Text, str] | None
    """Labels of the namespaces that the rules are for (default: all)."""
    name: Text | None
    """Beginning of the objects' names (default ``dask-guardrails``)."""


class DaskGuardrails(DaskConstruct):
    """Who creates Dask resources gets no more by them than could be had without.

    - Who may not create Pods may not create Dask resources, which are made of Pods.
    - Who may not scale a worker group may not create an autoscaler for it.
    - ServiceAccounts and their tokens, types of Services, volumes and images are those of the lists.
    - The namespace enforces a level of Pod security.

    What was there before may stay: looked at is what is new, or changes its ``spec`` by more than ``suspend``.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[GuardrailProps]) -> None:
        """Declare it with the keyword arguments of ``GuardrailProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, GuardrailProps)
        self._name, self._labels = options.get("name", "dask-guardrails"), options.get("namespace_labels", {})
        for kind, row in DASK_KINDS.items():
            if specs := embedded(kind, "PodSpec"):
                self._policy(row.plural, [*_pods(kind, options), *_services(kind, options)], specs)
            else:
                self._policy(row.plural, [_MAY_SCALE])

    def _policy(self, plural: str, rules: Sequence[Rule], specs: str = "") -> None:
        # Else the garbage collector, which takes away finalizers and owners, would be asked whether it may create Pods.
        changed = {"name": "spec", "expression": f"oldObject == null || !{ONLY_SUSPENDS}"}
        spec: dict[str, Any] = {
            "matchConstraints": constraints(plural, ["CREATE", "UPDATE"], self._labels),
            "matchConditions": [changed],
            "validations": list(rules),
        }
        if specs:
            spec["variables"] = [{"name": "specs", "expression": specs}]
        name = f"{self._name}-{plural}"
        for manifest in with_binding(name, spec):
            cluster_scoped(self, f"{manifest['kind']}-{name}", manifest)


# --- who --------------------------------------------------------------------------------------------------------------

_HAS_SECRET = (
    f"{CONTAINERS}.exists(c, c.?env.orValue([]).exists(e, e.?valueFrom.?secretKeyRef.hasValue())"
    " || c.?envFrom.orValue([]).exists(e, e.?secretRef.hasValue()))"
    " || s.?volumes.orValue([]).exists(v, v.?secret.hasValue() || v.?csi.hasValue()"
    " || v.?projected.?sources.orValue([]).exists(p, p.?secret.hasValue()))"
)
#: Both fields of its name: the API server makes them agree in Pods only.
_ACCOUNTS = "[s.?serviceAccountName.orValue('default'), s.?serviceAccount.orValue('default')]"

_MAY_SCALE = rule(
    "authorizer.group('kubernetes.dask.org').resource('daskworkergroups').subresource('scale')"
    ".namespace(request.namespace).name(object.spec.?workerGroup.orValue(object.spec.cluster + '-default'))"
    ".check('update').allowed()",
    "'an autoscaler scales a DaskWorkerGroup, and you may not update daskworkergroups/scale here'",
)


#: Where a volume is named that the operator adds to a scheduler.
_HISTORY = {
    "DaskCluster": "object.spec.?history.?claimName",
    "DaskJob": "object.spec.cluster.spec.?history.?claimName",
}


def _may_create_pods(kind: str, starters: Sequence[str]) -> Rule:
    allowed = MAY_CREATE_PODS
    if kind == "DaskCluster":
        allowed += f" || {MAY_USE_TEMPLATE}"
    message = "a Dask resource is made of Pods, and you may not create Pods here"
    if kind == "DaskJob" and starters:
        plain = f"variables.specs.all(s, {_ACCOUNTS}.all(a, a == 'default') && !({_HAS_SECRET}))"
        allowed += f" || (request.userInfo.username in {texts(starters)} && {plain})"
        message += "; with the ServiceAccount default and without Secrets, a starter may create it all the same"
    return rule(allowed, text(message))


# --- what -------------------------------------------------------------------------------------------------------------


def _pods(kind: str, options: Options) -> Iterator[Rule]:
    """Rules about all Pods of a resource, ``variables.specs``."""
    yield _may_create_pods(kind, options.get("starters", ()))
    yield from _accounts(options.get("service_accounts", ()))
    yield _volumes(options.get("volumes", VOLUMES))
    if "persistentVolumeClaim" not in options.get("volumes", VOLUMES) and kind in _HISTORY:
        yield rule(
            f"!{_HISTORY[kind]}.hasValue()",
            text("a history with claimName needs a persistentVolumeClaim, not allowed here"),
        )
    if registries := options.get("image_registries"):
        yield images_from(registries)
    levels = options.get("pod_security", ("baseline", "restricted"))
    yield rule(
        f"namespaceObject.metadata.?labels[?'{_ENFORCED}'].orValue('') in {texts(levels)}",
        f"'namespace ' + request.namespace + {text(f' must enforce Pod security: label it {_ENFORCED}={levels[-1]}')}",
    )


def _accounts(accounts: Sequence[str]) -> Iterator[Rule]:
    allowed = texts(["default", *accounts])
    yield rule(
        f"variables.specs.all(s, {_ACCOUNTS}.all(a, a in {allowed}))",
        "'these ServiceAccounts are not allowed here: ' + variables.specs.map(s, "
        f"{_ACCOUNTS}.filter(a, !(a in {allowed})).join(', ')).filter(a, a != '').join(', ') + "
        + text(f"; allowed: {', '.join(['default', *accounts])}"),
    )
    token = (
        "s.?automountServiceAccountToken.orValue(true) || s.?volumes.orValue([])"
        ".exists(v, v.?projected.?sources.orValue([]).exists(p, p.?serviceAccountToken.hasValue()))"
    )
    yield rule(
        f"variables.specs.all(s, s.?serviceAccountName.orValue('default') in {texts(accounts)} || !({token}))",
        "'Pods may not mount a token of the Kubernetes API here: set automountServiceAccountToken to false'",
    )


def _volumes(volumes: Sequence[str]) -> Rule:
    foreign = f"s.?volumes.orValue([]).map(v, v.filter(k, !(k in {texts(['name', *volumes])})).join(', '))"
    return rule(
        f"variables.specs.all(s, {foreign}.all(ks, ks == ''))",
        f"'these volumes are not allowed here: ' + variables.specs.map(s, {foreign}.filter(ks, ks != '').join(', '))"
        f".filter(ks, ks != '').join(', ') + {text('; allowed: ' + ', '.join(volumes))}",
    )


def _services(kind: str, options: Options) -> Iterator[Rule]:
    """Rules about the scheduler's Service: where it can be reached from, and that it leads to the scheduler."""
    types = options.get("service_types", ("ClusterIP",))
    fields = [field for field, found in embedded_types(kind).items() if found == "core/v1/ServiceSpec"]
    for field in fields:
        service = f"object.{field}".replace(".service", ".?service")
        yield rule(
            f"{service}.?type.orValue('ClusterIP') in {texts(types)}",
            text(f"the type of the scheduler's Service must be one of: {', '.join(types)}"),
        )
        for forbidden in ("externalIPs", "externalName", "loadBalancerIP", "selector"):
            yield rule(
                f"!{service}.?{forbidden}.hasValue()",
                text(f"{forbidden} of the scheduler's Service is not allowed here: leave it out"),
            )
