"""ValidatingAdmissionPolicies about Dask resources, and the CEL that several of them have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dask_crds import names
from dask_crds.kinds import DASK_KINDS
from dask_crds.names import Label
from dask_crds.schema import embedded_types

Rule = dict[str, str]


def with_binding(name: str, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A policy that refuses what breaks its rules, or what cannot be decided; and its binding."""
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    return [
        {**api, "kind": "ValidatingAdmissionPolicy", "spec": {"failurePolicy": "Fail", **spec}},
        {**api, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
    ]


def constraints(resource: str, operations: Sequence[str], namespace_labels: Mapping[str, str]) -> dict[str, Any]:
    """``matchConstraints`` for Dask resources of one kind, or for a subresource (``daskclusters/scale``)."""
    rule = {
        "apiGroups": [names.GROUP],
        "apiVersions": [names.VERSION],
        "operations": list(operations),
        "resources": [resource],
    }
    selector = {"namespaceSelector": {"matchLabels": namespace_labels}} if namespace_labels else {}
    return {"resourceRules": [rule], **selector}


# --- CEL --------------------------------------------------------------------------------------------------------------

#: Containers of a PodSpec ``s``.
CONTAINERS = "(s.containers + s.?initContainers.orValue([]))"
#: Whether who asks may create Pods, and so has anyway what Dask resources would give.
MAY_CREATE_PODS = "authorizer.group('').resource('pods').namespace(request.namespace).check('create').allowed()"
#: The template that a cluster says to be made from, see ``DaskClusterTemplate``.
MADE_FROM = f"object.metadata.?labels[?'{Label.MADE_FROM}'].orValue('')"
#: Whether who asks may use that template, whose own policy holds the cluster to it.
MAY_USE_TEMPLATE = (
    f"({MADE_FROM} != '' && authorizer.group('{names.GROUP}').resource('{DASK_KINDS['DaskCluster'].plural}')"
    f".namespace(request.namespace).name({MADE_FROM}).check('use').allowed())"
)
#: Whether an update changes nothing of ``spec`` but ``suspend``: what there was sleeps, or goes on as it was.
ONLY_SUSPENDS = (
    "(object.spec.all(k, k == 'suspend' || (k in oldObject.spec && oldObject.spec[k] == object.spec[k]))"
    " && oldObject.spec.all(k, k == 'suspend' || k in object.spec))"
)
_OWNERS, _NEW_OWNERS = (f"{of}.metadata.?ownerReferences.orValue([])" for of in ("oldObject", "object"))
#: Whether an update gives an object finalizers or owners: it would never end, or at once, as the garbage collector
#: takes away what belongs to nothing that is there. The collector itself only takes owners from objects.
TIED_ANEW = (
    "(object.metadata.?finalizers.orValue([]).exists(f, !(f in oldObject.metadata.?finalizers.orValue([])))"
    f" || {_NEW_OWNERS}.exists(r, !{_OWNERS}.exists(o,"
    " o.uid == r.uid && o.name == r.name && o.kind == r.kind && o.apiVersion == r.apiVersion)))"
)
_RELABELLED = " || ".join(
    f"object.metadata.?{field}.orValue({{}}) != oldObject.metadata.?{field}.orValue({{}})"
    for field in ("labels", "annotations")
)
#: Whether an update changes nothing at all but ``spec.suspend``.
ONLY_WAKES = f"({ONLY_SUSPENDS} && !({_RELABELLED}) && !{TIED_ANEW})"
#: Whether an update changes anything, ``metadata`` that the garbage collector tidies aside.
CHANGED = f"(object.spec != oldObject.spec || {_RELABELLED} || {TIED_ANEW})"
_IMAGES = (
    f"({CONTAINERS}.map(c, c.?image.orValue(''))"
    " + s.?volumes.orValue([]).filter(v, v.?image.hasValue()).map(v, v.image.?reference.orValue('')))"
)


def rule(expression: str, message: str) -> Rule:
    """A rule, and CEL for what is said to whom it refuses."""
    return {"expression": expression, "messageExpression": message, "reason": "Forbidden"}


def text(value: str) -> str:
    """A CEL string."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def texts(values: Iterable[str]) -> str:
    """A CEL list of strings."""
    return f"[{', '.join(map(text, values))}]"


def embedded(kind: str, type: str) -> str:
    """A list of all that is of a type of Kubernetes in a resource of a kind, ``PodSpec`` say; empty if nothing is."""
    fields = [field for field, found in embedded_types(kind).items() if found == f"core/v1/{type}"]
    return " + ".join(_listed(f"object.{field}") for field in fields)


def _listed(path: str) -> str:
    """A list of what is at a path; ``a.b[].c`` leads into a list that may be missing."""
    parent, leads_into, field = path.partition("[].")
    if not leads_into:
        return f"[{path}]"
    parent, _, members = parent.rpartition(".")
    return f"{parent}.?{members}.orValue([]).map(member, member.{field})"


def images_from(registries: Iterable[str]) -> Rule:
    """The images of all Pods of ``variables.specs``, image volumes too, come from one of some registries.

    A beginning ends where a part of an image's name does: ``registry.example.com`` is not
    ``registry.example.com.evil.io``.
    """
    beginnings = [f"{registry.rstrip('/')}/" for registry in registries]
    allowed = " || ".join(f"image.startsWith({text(beginning)})" for beginning in beginnings)
    return rule(
        f"variables.specs.all(s, {_IMAGES}.all(image, {allowed}))",
        f"'these images are not allowed here: ' + variables.specs.map(s, {_IMAGES}.filter(image, !({allowed}))"
        f".join(', ')).filter(i, i != '').join(', ') + {text('; allowed: ' + ', '.join(beginnings))}",
    )
