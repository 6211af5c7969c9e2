"""What somebody may make of a cluster's template who may not create Pods: CEL for the API server's admission."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dask_crds import names
from dask_crds.inheritance import repeated
from dask_crds.kinds import DASK_KINDS
from dask_crds.model import MAX_WORKERS
from dask_crds.names import Annotation, Label

from .admission import (
    CHANGED,
    MADE_FROM,
    MAY_CREATE_PODS,
    MAY_USE_TEMPLATE,
    ONLY_WAKES,
    Rule,
    rule,
    text,
    texts,
)
from .policy import workers_of_cluster

#: Pattern of what follows a template's name and a dash in the names of clusters that are made from it.
SUFFIX = f"[{names.SUFFIX_LETTERS}]{{{names.SUFFIX_LENGTH}}}"
#: Fields of a cluster's spec that its maker decides, within bounds or freely; of ``worker`` only ``replicas``, of
#: ``autoscaler`` only ``minimum`` and ``maximum``.
_OPEN = ("worker", "autoscaler", "suspend", "idleAction", "idleTimeout", "noClientTimeout")
_CLUSTERS = DASK_KINDS["DaskCluster"].plural
_IS_CLUSTER = f"request.resource.resource == '{_CLUSTERS}' && request.?subResource.orValue('') == ''"
_ME = "request.userInfo.username"
_MADE_BEFORE = MADE_FROM.replace("object.", "oldObject.")


def _owner(of: str) -> str:
    return f"{of}.metadata.?annotations[?'{Annotation.OWNER}'].orValue('')"


#: Whether a write is one to look at. Who may create Pods has what all this keeps from others; and the garbage collector
#: takes away owners and finalizers.
_UNTRUSTED = {"name": "may-not-create-pods", "expression": f"!{MAY_CREATE_PODS}"}
_CHANGED = {
    "name": "changed",
    "expression": f"request.operation != 'UPDATE' || request.?subResource.orValue('') != '' || {CHANGED}",
}
_BY_HAND = "you may not create Pods here, so "
_ONLY = f"{_BY_HAND}of a DaskCluster that is not made from a template you may change spec.suspend alone"


def only_suspend(namespace: str) -> dict[str, Any]:
    """Spec of the policy by which who wakes a cluster changes nothing else of it; RBAC cannot tell fields apart."""
    about = {
        "apiGroups": [names.GROUP],
        "apiVersions": [names.VERSION],
        "resources": [_CLUSTERS],
        "operations": ["UPDATE"],
        "scope": "Namespaced",
    }
    # Then the template's own policies decide. Without it nobody has the right to use it: they are gone together.
    ours = f"{MAY_USE_TEMPLATE} && {MADE_FROM} == {_MADE_BEFORE}"
    return {
        "matchConstraints": {"resourceRules": [about], **_in(namespace)},
        "matchConditions": [_UNTRUSTED, _CHANGED],
        "validations": [rule(f"({ours}) || {ONLY_WAKES}", text(_ONLY))],
    }


def use(template: str, namespace: str, maximum: int) -> dict[str, Any]:
    """Spec of the policy about who makes, changes and deletes clusters of a namespace, and how many workers they get.

    The right to ``use`` a template is by RBAC, and by its name. Who has none, and may not create Pods either, makes no
    clusters; and of any that is there changes nothing but whether it is suspended.
    """
    group = {"apiGroups": [names.GROUP], "apiVersions": [names.VERSION], "scope": "Namespaced"}
    scales = [f"{row.plural}/scale" for row in DASK_KINDS.values() if row.scale]
    about = [
        {**group, "resources": [_CLUSTERS], "operations": ["CREATE", "UPDATE", "DELETE"]},
        {**group, "resources": scales, "operations": ["UPDATE"]},
        {**group, "resources": [DASK_KINDS["DaskAutoscaler"].plural], "operations": ["CREATE", "UPDATE"]},
    ]
    return {
        "matchConstraints": {"resourceRules": about, **_in(namespace)},
        "matchConditions": [_UNTRUSTED, _CHANGED],
        "validations": [*_who(template), *_whose(template), *_how_many(template, maximum)],
    }


def same(template: str, namespace: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Spec of the policy about what clusters are that say to be made from a template, which is its parameter.

    Args:
        template: name of the template.
        namespace: where it is.
        metadata: that Git states of it: labels and annotations that Pods get, or by which quota is waited for, have to
            be repeated.
    """
    about = {
        "apiGroups": [names.GROUP],
        "apiVersions": [names.VERSION],
        "resources": [_CLUSTERS],
        "operations": ["CREATE", "UPDATE"],
        "scope": "Namespaced",
    }
    return {
        "paramKind": {"apiVersion": names.API_VERSION, "kind": "DaskCluster"},
        "matchConstraints": {"resourceRules": [about], **_in(namespace)},
        "matchConditions": [_UNTRUSTED, _CHANGED],
        "variables": [
            {"name": "before", "expression": "oldObject == null ? dyn({}) : dyn(oldObject.spec)"},
            {"name": "metadata", "expression": "oldObject == null ? dyn({}) : dyn(oldObject.metadata)"},
        ],
        "validations": [*_as_in(template), *_not_for_longer(template), *_plain_metadata(template, metadata)],
    }


def binding_of_same(template: str, namespace: str) -> dict[str, Any]:
    """What its binding has beside what bindings have: the parameter, and which clusters are meant."""
    return {
        "paramRef": {"name": template, "namespace": namespace, "parameterNotFoundAction": "Deny"},
        "matchResources": {"objectSelector": {"matchLabels": {Label.MADE_FROM: template}}},
    }


def _in(namespace: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


def _of_clusters(operations: Sequence[str], expression: str) -> str:
    return f"!({_IS_CLUSTER} && request.operation in {texts(operations)}) || ({expression})"


# --- who --------------------------------------------------------------------------------------------------------------


def _who(template: str) -> Iterable[Rule]:
    unmade = f"{_BY_HAND}a DaskCluster must be made from a template that you may use: {Label.MADE_FROM}={template}"
    yield rule(_of_clusters(["CREATE"], MAY_USE_TEMPLATE), text(unmade))
    yield rule(
        _of_clusters(["UPDATE"], f"request.name != {text(template)}"),
        text(f"{template} is a template: make a cluster from it, it stays as it is"),
    )
    yield rule(
        _of_clusters(["UPDATE"], f"{MADE_FROM} == {_MADE_BEFORE} && ({MAY_USE_TEMPLATE} || {ONLY_WAKES})"),
        text(_ONLY),
    )
    uses = MAY_USE_TEMPLATE.replace("object.", "oldObject.")
    may_use_this = _may_use(template)
    yield rule(
        _of_clusters(["DELETE"], f"!{may_use_this} || ({uses} && {_owner('oldObject')} == {_ME})"),
        f"'you may delete clusters that you have made from a template; ' + request.name + ' belongs to ' + "
        f"({_owner('oldObject')} == '' ? 'Git' : {_owner('oldObject')})",
    )
    options = "request.?options.?"
    orphan = f"{options}propagationPolicy.orValue('') != 'Orphan' && !{options}orphanDependents.orValue(false)"
    yield rule(
        _of_clusters(["DELETE"], f"!{may_use_this} || ({orphan})"),
        text("a cluster goes with its Pods: no --cascade=orphan"),
    )


def _may_use(template: str) -> str:
    return (
        f"authorizer.group('{names.GROUP}').resource('{_CLUSTERS}').namespace(request.namespace)"
        f".name({text(template)}).check('use').allowed()"
    )


def _whose(template: str) -> Iterable[Rule]:
    mine = f"{_owner('object')} == {_ME} && (oldObject == null || {_owner('oldObject')} == {_ME})"
    # What wakes clusters for others, an activator or a queue, has no right to use templates.
    woken = f"oldObject != null && {ONLY_WAKES} && !{_may_use(template)}"
    yield rule(
        _made_from(template, f"({mine}) || ({woken})"),
        f"'annotation {Annotation.OWNER} must be ' + {_ME} + ', who asks'"
        f" + (oldObject == null ? '' : '; it is ' + {_owner('oldObject')})",
    )
    yield rule(
        _made_from(template, f"object.metadata.name.matches({text(f'^{template}-{SUFFIX}$')})"),
        text(
            f"the name of a cluster from {template} is {template}- and {names.SUFFIX_LENGTH} of {names.SUFFIX_LETTERS}:"
            f" metadata.generateName: {template}- makes one"
        ),
    )


def _made_from(template: str, expression: str) -> str:
    return _of_clusters(["CREATE", "UPDATE"], f"{MADE_FROM} != {text(template)} || ({expression})")


# --- how many ---------------------------------------------------------------------------------------------------------


def _how_many(template: str, maximum: int) -> Iterable[Rule]:
    bound = f"'at most {maximum} workers by template {template}, not ' + string("
    workers = workers_of_cluster("object.spec")
    # What is larger than a bound that came later may be put to sleep, and wakes when it is smaller.
    sleeps = f"oldObject != null && {ONLY_WAKES} && object.spec.?suspend.orValue(false)"
    yield rule(
        _made_from(template, f"({sleeps}) || ({workers}).all(number, number <= {maximum})"),
        f"{bound}({workers}).filter(number, number > {maximum})[0])",
    )
    # What was there before has the selector from the operator; what is new has it from who asks. A group whose status
    # the operator is yet to write is known by its name, as a cluster is.
    selector = "oldObject.?status.?selector.orValue('')"
    labelled = f"{selector}.matches({text(f'(^|,){Label.CLUSTER}={template}-{SUFFIX}(,|$)')})"
    end = f"(request.resource.resource == '{_CLUSTERS}' ? '$' : '-')"
    named = f"request.name.matches({text(f'^{template}-{SUFFIX}')} + {end})"
    ours = f"({selector} == '' ? {named} : {labelled})"
    scaled = "object.spec.?replicas.orValue(0)"
    yield rule(
        f"request.?subResource.orValue('') != 'scale' || !{ours} || {scaled} <= {maximum}",
        f"{bound}{scaled})",
    )
    most = f"object.spec.?maximum.orValue({MAX_WORKERS})"
    yield rule(
        f"request.resource.resource != '{DASK_KINDS['DaskAutoscaler'].plural}'"
        f" || !object.spec.cluster.matches({text(f'^{template}-{SUFFIX}$')}) || {most} <= {maximum}",
        f"{bound}{most})",
    )


# --- what -------------------------------------------------------------------------------------------------------------


def _differing(new: str, wanted: str, before: str, free: Sequence[str]) -> str:
    """CEL for the names of fields that are as in the template neither now, nor were so before."""
    apart = f"!(k in {texts(free)})"
    changed = (
        f"{new}.filter(k, {apart} && {new}[k] != {wanted}[?k].orValue(null) && {new}[k] != {before}[?k].orValue(null))"
    )
    missing = f"{wanted}.filter(k, {apart} && !(k in {new}) && ({before} == {{}} || k in {before}))"
    return f"({changed} + {missing})"


def _as_in(template: str) -> Iterable[Rule]:
    def part(field: str) -> tuple[str, str, str]:
        return (
            f"object.spec.?{field}.orValue({{}})",
            f"params.spec.?{field}.orValue({{}})",
            f"variables.before.?{field}.orValue({{}})",
        )

    for prefix, paths, free in (
        ("spec.", ("object.spec", "params.spec", "variables.before"), _OPEN),
        ("spec.worker.", part("worker"), ("replicas",)),
        ("spec.autoscaler.", part("autoscaler"), ("minimum", "maximum")),
    ):
        fields = _differing(*paths, free)
        yield rule(
            f"{fields}.size() == 0",
            f"{fields}.map(k, {text(prefix)} + k).join(', ') + {text(f' must be as in template {template}')}",
        )


def _not_for_longer(template: str) -> Iterable[Rule]:
    for field in ("idleTimeout", "noClientTimeout"):
        most, asked = f"params.spec.?{field}.orValue(0)", f"object.spec.?{field}.orValue(0)"
        yield rule(
            f"{most} == 0 || ({asked} > 0 && {asked} <= {most})"
            f" || (oldObject != null && {asked} == variables.before.?{field}.orValue(0))",
            f"{text(f'spec.{field} must be at least 1 and at most ')} + string({most})"
            f" + {text(f' s by template {template}, not ')} + string({asked})",
        )


def _plain_metadata(template: str, metadata: Mapping[str, Any]) -> Iterable[Rule]:
    """Labels and annotations reach Pods, by which others know and judge them; and a label is the queue for quota."""
    for field, free in (("labels", Label.MADE_FROM), ("annotations", Annotation.OWNER)):
        paths = (f"{of}.?{field}.orValue({{}})" for of in ("object.metadata", "params.metadata", "variables.metadata"))
        new, wanted, before = paths
        fields = f"{new}.filter(k, k != '{free}' && {wanted}[?k] != {new}[?k] && {before}[?k] != {new}[?k])"
        yield rule(
            f"{fields}.size() == 0",
            f"{text(f'{field} must be those of template {template}; not allowed: ')} + {fields}.join(', ')",
        )
        if stated := sorted(repeated(metadata.get(field))):
            there = f"k in {wanted} && !(k in {new}) && (oldObject == null || k in {before})"
            missing = f"{texts(stated)}.filter(k, {there})"
            yield rule(
                f"{missing}.size() == 0",
                f"{text(f'{field} must be those of template {template}; missing: ')} + {missing}.join(', ')",
            )
    yield rule(
        "object.metadata.?finalizers.orValue([]).all(f, f in variables.metadata.?finalizers.orValue([]))",
        text("finalizers are not allowed here: the cluster would not end with its owner"),
    )
    yield rule(
        "object.metadata.?ownerReferences.orValue([]).all(r, r.kind == 'Pod' && r.apiVersion == 'v1')",
        text("a cluster from a template may belong to a Pod, and to nothing else"),
    )
