"""What Dask resources may ask for in a shared cluster, checked by the API server itself (ValidatingAdmissionPolicy).

The operator makes Pods for whoever may create Dask resources. Without these rules that right is as much as the right to
create any Pod of the namespace, under any of its ServiceAccounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

from constructs import Construct

from dask_crds import names
from dask_crds.kinds import DASK_KINDS
from dask_crds.schema import embedded_types

from .keywords import Options
from .manifest import cluster_scoped
from .resource import DaskConstruct
from .values import Text

#: What restricted Pod security lets Pods mount, but for CSI volumes, by which a driver may hand out anything.
VOLUMES = ("configMap", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret")
_ENFORCED = "pod-security.kubernetes.io/enforce"

Rule = dict[str, str]


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

    What was there before may stay: looked at is what is new, or changes its ``spec``.

    Args:
        props: see ``GuardrailProps``.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[GuardrailProps]) -> None:
        super().__init__(scope, id)
        options = self._accepted(props, GuardrailProps)
        self._name, self._labels = options.get("name", "dask-guardrails"), options.get("namespace_labels", {})
        for kind, row in DASK_KINDS.items():
            if specs := _fields(kind, "PodSpec"):
                services = _fields(kind, "ServiceSpec")
                variables = {"specs": " + ".join(specs)}
                self._policy(row.plural, [*_pods(kind, options), *_services(services, options)], variables)
            else:
                self._policy(row.plural, [_MAY_SCALE])

    def _policy(self, plural: str, rules: Sequence[Rule], variables: Mapping[str, str] | None = None) -> None:
        resource = {"apiGroups": [names.GROUP], "apiVersions": [names.VERSION], "resources": [plural]}
        constraints: dict[str, Any] = {"resourceRules": [{**resource, "operations": ["CREATE", "UPDATE"]}]}
        if self._labels:
            constraints["namespaceSelector"] = {"matchLabels": self._labels}
        # Else the garbage collector, which takes away finalizers and owners, would be asked whether it may create Pods.
        changed = {"name": "spec", "expression": "oldObject == null || object.spec != oldObject.spec"}
        spec: dict[str, Any] = {
            "failurePolicy": "Fail",
            "matchConstraints": constraints,
            "matchConditions": [changed],
            "validations": list(rules),
        }
        if variables:
            spec["variables"] = [{"name": name, "expression": expression} for name, expression in variables.items()]
        name = f"{self._name}-{plural}"
        self._object(name, "ValidatingAdmissionPolicy", spec)
        self._object(name, "ValidatingAdmissionPolicyBinding", {"policyName": name, "validationActions": ["Deny"]})

    def _object(self, name: str, kind: str, spec: Mapping[str, Any]) -> None:
        manifest = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
        cluster_scoped(self, f"{kind}-{name}", {**manifest, "spec": spec})


def _fields(kind: str, type: str) -> list[str]:
    """CEL for the fields of a kind that are of a type of Kubernetes, each a list; ``a.b[].c`` leads into a list."""
    fields = [field for field, found in embedded_types(kind).items() if found == f"core/v1/{type}"]
    return [_listed(f"object.{field}") for field in fields]


def _listed(path: str) -> str:
    parent, leads_into, field = path.partition("[].")
    if not leads_into:
        return f"[{path}]"
    parent, _, members = parent.rpartition(".")
    return f"{parent}.?{members}.orValue([]).map(member, member.{field})"


def _rule(expression: str, message: str) -> Rule:
    """A rule, and CEL for what is said to whom it refuses."""
    return {"expression": expression, "messageExpression": message, "reason": "Forbidden"}


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


# --- who --------------------------------------------------------------------------------------------------------------

_CONTAINERS = "(s.containers + s.?initContainers.orValue([]))"
_HAS_SECRET = (
    f"{_CONTAINERS}.exists(c, c.?env.orValue([]).exists(e, e.?valueFrom.?secretKeyRef.hasValue())"
    " || c.?envFrom.orValue([]).exists(e, e.?secretRef.hasValue()))"
    " || s.?volumes.orValue([]).exists(v, v.?secret.hasValue() || v.?csi.hasValue()"
    " || v.?projected.?sources.orValue([]).exists(p, p.?secret.hasValue()))"
)
#: Both fields of its name: the API server makes them agree in Pods only.
_ACCOUNTS = "[s.?serviceAccountName.orValue('default'), s.?serviceAccount.orValue('default')]"

_MAY_SCALE = _rule(
    "authorizer.group('kubernetes.dask.org').resource('daskworkergroups').subresource('scale')"
    ".namespace(request.namespace).name(object.spec.?workerGroup.orValue(object.spec.cluster + '-default'))"
    ".check('update').allowed()",
    "'an autoscaler scales a DaskWorkerGroup, and you may not update daskworkergroups/scale here'",
)


def _may_create_pods(kind: str, starters: Sequence[str]) -> Rule:
    allowed = "authorizer.group('').resource('pods').namespace(request.namespace).check('create').allowed()"
    message = "a Dask resource is made of Pods, and you may not create Pods here"
    if kind == "DaskJob" and starters:
        plain = f"variables.specs.all(s, {_ACCOUNTS}.all(a, a == 'default') && !({_HAS_SECRET}))"
        allowed += f" || (request.userInfo.username in {_list(starters)} && {plain})"
        message += "; with the ServiceAccount default and without Secrets, a starter may create it all the same"
    return _rule(allowed, _text(message))


# --- what -------------------------------------------------------------------------------------------------------------


def _pods(kind: str, options: Options) -> Iterator[Rule]:
    """Rules about all Pods of a resource, ``variables.specs``."""
    yield _may_create_pods(kind, options.get("starters", ()))
    yield from _accounts(options.get("service_accounts", ()))
    yield _volumes(options.get("volumes", VOLUMES))
    if registries := options.get("image_registries"):
        yield _images([f"{registry.rstrip('/')}/" for registry in registries])
    levels = options.get("pod_security", ("baseline", "restricted"))
    yield _rule(
        f"namespaceObject.metadata.?labels[?'{_ENFORCED}'].orValue('') in {_list(levels)}",
        f"'namespace ' + request.namespace + {_text(f' must enforce Pod security: label it {_ENFORCED}={levels[-1]}')}",
    )


def _accounts(accounts: Sequence[str]) -> Iterator[Rule]:
    allowed = _list(["default", *accounts])
    yield _rule(
        f"variables.specs.all(s, {_ACCOUNTS}.all(a, a in {allowed}))",
        "'these ServiceAccounts are not allowed here: ' + variables.specs.map(s, "
        f"{_ACCOUNTS}.filter(a, !(a in {allowed})).join(', ')).filter(a, a != '').join(', ') + "
        + _text(f"; allowed: {', '.join(['default', *accounts])}"),
    )
    token = (
        "s.?automountServiceAccountToken.orValue(true) || s.?volumes.orValue([])"
        ".exists(v, v.?projected.?sources.orValue([]).exists(p, p.?serviceAccountToken.hasValue()))"
    )
    yield _rule(
        f"variables.specs.all(s, s.?serviceAccountName.orValue('default') in {_list(accounts)} || !({token}))",
        "'Pods may not mount a token of the Kubernetes API here: set automountServiceAccountToken to false'",
    )


def _volumes(volumes: Sequence[str]) -> Rule:
    foreign = f"s.?volumes.orValue([]).map(v, v.filter(k, !(k in {_list(['name', *volumes])})).join(', '))"
    return _rule(
        f"variables.specs.all(s, {foreign}.all(ks, ks == ''))",
        f"'these volumes are not allowed here: ' + variables.specs.map(s, {foreign}.filter(ks, ks != '').join(', '))"
        f".filter(ks, ks != '').join(', ') + {_text('; allowed: ' + ', '.join(volumes))}",
    )


def _images(registries: Sequence[str]) -> Rule:
    allowed = " || ".join(f"image.startsWith({_text(registry)})" for registry in registries)
    volumes = "s.?volumes.orValue([]).filter(v, v.?image.hasValue()).map(v, v.image.?reference.orValue(''))"
    images = f"({_CONTAINERS}.map(c, c.?image.orValue('')) + {volumes})"
    return _rule(
        f"variables.specs.all(s, {images}.all(image, {allowed}))",
        f"'these images are not allowed here: ' + variables.specs.map(s, {images}.filter(image, !({allowed}))"
        f".join(', ')).filter(i, i != '').join(', ') + {_text('; allowed: ' + ', '.join(registries))}",
    )


def _services(fields: Sequence[str], options: Options) -> Iterator[Rule]:
    """Rules about the scheduler's Service: where it can be reached from, and that it leads to the scheduler."""
    types = options.get("service_types", ("ClusterIP",))
    for field in fields:
        service = field.strip("[]").replace(".service", ".?service")
        yield _rule(
            f"{service}.?type.orValue('ClusterIP') in {_list(types)}",
            _text(f"the type of the scheduler's Service must be one of: {', '.join(types)}"),
        )
        for forbidden in ("externalIPs", "externalName", "loadBalancerIP", "selector"):
            yield _rule(
                f"!{service}.?{forbidden}.hasValue()",
                _text(f"{forbidden} of the scheduler's Service is not allowed here: leave it out"),
            )
