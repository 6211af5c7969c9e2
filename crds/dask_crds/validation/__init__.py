"""Mistakes that the types do not show: the API server's CEL rules, told offline, and what Kubernetes refuses later.

The API server checks most of this too (``schema.py``), but a Pod's errors show only when the operator creates it. Here
they are said at synth time, with the field's name. Hence only what is refused in any cluster is reported: what is valid
in some must pass.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from .. import names
from ..model import (
    DEFAULT_GROUP_IS_TAKEN,
    NOTHING_TO_UPDATE,
    PERCENTAGE,
    WAKE_NEEDS_ADDRESS,
    Autoscaling,
    DaskAutoscalerSpec,
    DaskCluster,
    DaskClusterSpec,
    DaskJob,
    DaskJobSpec,
    DaskObject,
    DaskWorkerGroup,
    DaskWorkerGroupSpec,
    History,
    InvalidManifest,
    JobTemplate,
    PodFailurePolicy,
    RollingUpdate,
    Scheduler,
    TemplateMetadata,
    Tls,
    WorkerGroup,
    WorkerTemplate,
    dump,
    without_nulls,
)
from ..schema import structural
from . import metadata
from .history import history
from .pods import DEFAULT_GRACE_SECONDS, containers, pod, pod_annotations
from .rules import KEY, LABEL, LONGEST_NAME, unique
from .services import service
from .syntax import DNS_LABEL, Problems, any_name, cluster_name, group_name, labels_and_annotations

#: Largest ``spec``, as compact JSON. The annotation of plain ``kubectl apply`` holds no more, etcd not much more; and
#: the operator keeps every spec in memory, and writes it once more into what it makes of it.
LARGEST_SPEC_BYTES = 256 * 1024


def problems(value: DaskObject) -> list[InvalidManifest]:
    """All mistakes in a resource."""
    found = list(_problems(value))
    told = {path for path, _ in found}
    found += [
        problem for problem in _bounds("spec", _spec_schema(value.kind), dump(value.spec)) if problem[0] not in told
    ]
    return [InvalidManifest(path, message) for path, message in found]


def too_large(spec: object) -> str | None:
    """What is wrong with the size of a ``spec``, for people; ``None`` if nothing is.

    Args:
        spec: a value of the model, or the same as plain JSON data.
    """
    size = len(msgspec.json.encode(spec))
    if size <= LARGEST_SPEC_BYTES:
        return None
    limit = f"at most {LARGEST_SPEC_BYTES:,} are possible"
    return f"spec has {size:,} bytes as JSON, {limit}: put scripts and data into images, ConfigMaps or volumes"


def _problems(value: DaskObject) -> Problems:
    if size := too_large(value.spec):
        yield "spec", size.removeprefix("spec ")
    yield from _metadata(value)
    yield from _members("spec", value.spec)
    yield from _names_of_groups(value)


def _members(path: str, value: Any) -> Problems:
    """Mistakes in a value of the model, those in its members first."""
    if isinstance(value, list):
        for number, member in enumerate(value):
            yield from _members(f"{path}[{number}]", member)
    if not isinstance(value, msgspec.Struct):
        return
    for name, key in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
        yield from _members(f"{path}.{key}", getattr(value, name))
    for base in type(value).__mro__:
        if check := _CHECKS.get(base):
            yield from check(path, value)


# --- bounds -----------------------------------------------------------------------------------------------------------


def _bounds(path: str, schema: Mapping[str, Any], value: Any) -> Problems:
    """Numbers and texts beyond the schema's bounds, as far as ``parse`` lets them pass."""
    most_members = schema.get("maxItems", schema.get("maxProperties"))
    if most_members and isinstance(value, Mapping | list) and len(value) > most_members:
        yield path, f"must have at most {most_members} members, has {len(value)}"
    if isinstance(value, Mapping):
        schemas = schema.get("properties", {})
        for field, member in value.items():
            yield from _bounds(f"{path}.{field}", schemas.get(field, {}), member)
    elif isinstance(value, str):
        longest = schema.get("maxLength")
        if longest is not None and len(value) > longest:
            yield path, f"must have at most {longest} characters, has {len(value)}"
    elif isinstance(value, Sequence):
        for number, member in enumerate(value):
            yield from _bounds(f"{path}[{number}]", schema.get("items", {}), member)
    elif isinstance(value, int):
        least, most = schema.get("minimum"), schema.get("maximum")
        if least is not None and value < least:
            yield path, f"{value} is less than the minimum of {least}"
        if most is not None and value > most:
            yield path, f"{value} is greater than the maximum of {most}"


@cache
def _spec_schema(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = structural(kind)["properties"]["spec"]
    return schema


# --- names ------------------------------------------------------------------------------------------------------------

#: The API server appends so many characters to ``generateName``, and cuts it off before if need be.
_SUFFIX, _LONGEST_PREFIX = "x" * names.SUFFIX_LENGTH, 63 - names.SUFFIX_LENGTH


def _metadata(value: DaskObject) -> Problems:
    """What is wrong with ``metadata``: its form, then what is in the fields whose form is right."""
    bent = list(metadata.form(value.metadata))
    yield from bent
    wrong = {re.split(r"[.[]", f"{path}.")[1] for path, _ in bent}
    fields = {field: written for field, written in without_nulls(value.metadata).items() if field not in wrong}
    if "name" not in wrong:
        yield from _name(_NAMES.get(type(value), any_name), fields.get("name", ""), fields.get("generateName", ""))
    if fields.get("namespace"):
        yield from LABEL("metadata.namespace", fields["namespace"])
    yield from labels_and_annotations("metadata", fields.get("labels"), fields.get("annotations"))
    yield from metadata.finalizers("metadata.finalizers", fields.get("finalizers", ()))
    yield from metadata.owner_references("metadata.ownerReferences", fields.get("ownerReferences", ()))


def _name(check: Callable[[str, str], Problems], name: str, prefix: str) -> Problems:
    """``metadata.name``, or any name that can be made of ``metadata.generateName``."""
    if name or not prefix:
        yield from check("metadata.name", name)
        check = any_name  # all that Kubernetes asks of what is not used
    if not prefix:
        return
    if len(prefix) > LONGEST_NAME:
        yield "metadata.generateName", f"must have at most {LONGEST_NAME} characters, has {len(prefix)}"
    for path, message in check("metadata.generateName", prefix[:_LONGEST_PREFIX] + _SUFFIX):
        yield path, f"with {len(_SUFFIX)} characters appended: {message}"


#: Of whose names more is asked than Kubernetes asks of any.
_NAMES: dict[type, Callable[[str, str], Problems]] = {
    DaskCluster: cluster_name,
    DaskJob: cluster_name,  # its cluster has the same name
    DaskWorkerGroup: group_name,
}


def _names_of_groups(value: DaskObject) -> Problems:
    """Names of further groups that are possible, but not together with the cluster's."""
    match value:
        case DaskCluster(spec=spec):
            path = "spec"
        case DaskJob():
            path, spec = "spec.cluster.spec", value.spec.cluster.spec
        case _:
            return
    for number, group in enumerate(spec.worker_groups or ()):
        name = names.worker_group(value.name, group.name)
        if len(name) > names.MAX_GROUP_NAME:
            limit = f"{name} must have at most {names.MAX_GROUP_NAME} characters, has {len(name)}"
            yield f"{path}.workerGroups[{number}].name", f"{limit}: it is a label of the workers"


# --- specs ------------------------------------------------------------------------------------------------------------


def _cluster(path: str, spec: DaskClusterSpec) -> Problems:
    # One that is stated cannot be told from the default, which the API server fills in.
    if spec.autoscaler and spec.worker.size != 1:
        yield f"{path}.worker.replicas", f"must be left out: {path}.autoscaler decides the number of workers"
    groups = spec.worker_groups or []
    first: dict[str, int] = {}
    for number, group in enumerate(groups):
        if first.setdefault(group.name, number) != number:
            other = f"{path}.workerGroups[{first[group.name]}]"
            yield f"{path}.workerGroups[{number}].name", f"{group.name!r} is the name of {other} already"
    stated = spec.scheduler.service or {}
    if spec.wake == "OnConnect" and (stated.get("clusterIP") == "None" or stated.get("type") == "ExternalName"):
        yield f"{path}.wake", WAKE_NEEDS_ADDRESS


def _further_group(path: str, group: WorkerGroup) -> Problems:
    if not DNS_LABEL.fullmatch(group.name):
        yield f"{path}.name", f"{group.name!r} must be a DNS label: a-z, 0-9 and '-', at most 63 characters"
    if group.name == names.DEFAULT_GROUP:
        yield f"{path}.name", DEFAULT_GROUP_IS_TAKEN
    if group.autoscaler and group.replicas is not None:
        yield f"{path}.replicas", f"must be left out: {path}.autoscaler decides the number of workers"


def _autoscaler(path: str, spec: DaskAutoscalerSpec) -> Problems:
    yield from cluster_name(f"{path}.cluster", spec.cluster)


def _autoscaling(path: str, spec: Autoscaling) -> Problems:
    if spec.maximum is not None and spec.least > spec.maximum:
        yield f"{path}.minimum", f"must not be greater than {path}.maximum ({spec.least} > {spec.maximum})"


def _job(path: str, spec: DaskJobSpec) -> Problems:
    if spec.pod_failure_policy and (spec.job.spec.get("restartPolicy") or "Never") != "Never":
        yield f"{path}.podFailurePolicy", "needs restartPolicy Never of the runner"
    names = {container["name"] for _, container, _ in containers("", spec.job.spec)}
    for number, failure in enumerate(spec.pod_failure_policy.rules if spec.pod_failure_policy else ()):
        name = failure.on_exit_codes and failure.on_exit_codes.container_name
        if name is not None and name not in names:
            where = f"{path}.podFailurePolicy.rules[{number}].onExitCodes.containerName"
            yield where, f"the runner has no container {name!r}"
    if spec.cluster.spec.idle_action == "Suspend":
        yield f"{path}.cluster.spec.idleAction", "must be Delete: a job's cluster is suspended with the job"
    if spec.cluster.spec.wake == "OnConnect":
        yield f"{path}.cluster.spec.wake", "must be Manual: a job's cluster is resumed with the job"


def _worker_group(path: str, spec: DaskWorkerGroupSpec) -> Problems:
    yield from cluster_name(f"{path}.cluster", spec.cluster)


def _runner(path: str, template: JobTemplate) -> Problems:
    yield from pod(f"{path}.spec", template.spec)
    if template.spec.get("restartPolicy") == "Always":
        yield f"{path}.spec.restartPolicy", "must be Never or OnFailure: a runner runs to completion"


def _failure_policy(path: str, policy: PodFailurePolicy) -> Problems:
    for number, rule in enumerate(policy.rules):
        if (rule.on_exit_codes is None) == (rule.on_pod_conditions is None):
            yield f"{path}.rules[{number}]", "must have either onExitCodes or onPodConditions"
        if rule.on_pod_conditions == []:
            yield f"{path}.rules[{number}].onPodConditions", "must not be empty"
        for at, condition in enumerate(rule.on_pod_conditions or ()):
            yield from KEY(f"{path}.rules[{number}].onPodConditions[{at}].type", condition.type)
        if (codes := rule.on_exit_codes) is None:
            continue
        if codes.operator == "In" and 0 in codes.values:
            yield f"{path}.rules[{number}].onExitCodes.values", "must not have 0, which is no failure"
        if codes.values != sorted(codes.values):
            yield f"{path}.rules[{number}].onExitCodes.values", "must be in order, the least first"
        yield from unique(f"{path}.rules[{number}].onExitCodes.values", codes.values)


def _rolling_update(path: str, rolling: RollingUpdate) -> Problems:
    amounts = {"maxSurge": rolling.max_surge, "maxUnavailable": rolling.max_unavailable}
    for field, amount in amounts.items():
        if amount is None:
            continue
        fits = amount >= 0 if isinstance(amount, int) else re.fullmatch(PERCENTAGE, amount)
        if not fits:
            yield f"{path}.{field}", f"{reprlib.repr(amount)} must be a number or a percentage up to 999%"
    if all(map(_is_nothing, amounts.values())):
        yield path, NOTHING_TO_UPDATE


def _is_nothing(amount: int | str | None) -> bool:
    return amount == 0 or (isinstance(amount, str) and re.fullmatch("0+%", amount) is not None)


def _scheduler(path: str, scheduler: Scheduler) -> Problems:
    yield from pod(f"{path}.spec", scheduler.spec)
    if scheduler.service is not None:
        yield from service(f"{path}.service", scheduler.service)
    # Deployments allow nothing else.
    if (scheduler.spec.get("restartPolicy") or "Always") != "Always":
        yield f"{path}.spec.restartPolicy", "must be Always: the scheduler runs in a Deployment"
    if scheduler.spec.get("activeDeadlineSeconds") is not None:
        yield f"{path}.spec.activeDeadlineSeconds", "is not possible: the scheduler runs in a Deployment"


def _tls(path: str, tls: Tls) -> Problems:
    if tls.mode == "Secret" and tls.secret_name is None:
        yield f"{path}.secretName", "is missing: mode Secret needs a Secret with ca.crt, tls.crt and tls.key"
    elif tls.mode != "Secret" and tls.secret_name is not None:
        yield f"{path}.secretName", f"must be left out with mode {tls.mode}: the operator makes the Secret"
    elif tls.secret_name is not None:
        yield from any_name(f"{path}.secretName", tls.secret_name)


def _template_metadata(path: str, template: TemplateMetadata) -> Problems:
    yield from labels_and_annotations(path, template.labels, template.annotations)
    yield from pod_annotations(path, template.annotations)


#: `drainTimeoutSeconds` of a worker that states none.
_DRAIN_SECONDS = 300


def _worker(path: str, worker: WorkerTemplate) -> Problems:
    found = worker.spec["containers"]
    main = next((container for container in found if container["name"] == "worker"), found[0] if found else None)
    drain = _DRAIN_SECONDS if worker.drain_timeout_seconds is None else worker.drain_timeout_seconds
    hooked = main is not None and not (main.get("lifecycle") or {}).get("preStop")
    # The operator's hook comes with a longer grace period.
    yield from pod(f"{path}.spec", worker.spec, grace_seconds=DEFAULT_GRACE_SECONDS + (drain if hooked else 0))


#: What is checked of a value, wherever in a spec it is: a new kind is checked as far as it is made of the same parts.
_CHECKS: dict[type, Callable[[str, Any], Problems]] = {
    Autoscaling: _autoscaling,
    DaskAutoscalerSpec: _autoscaler,
    DaskClusterSpec: _cluster,
    DaskJobSpec: _job,
    DaskWorkerGroupSpec: _worker_group,
    History: history,
    JobTemplate: _runner,
    PodFailurePolicy: _failure_policy,
    RollingUpdate: _rolling_update,
    Scheduler: _scheduler,
    TemplateMetadata: _template_metadata,
    Tls: _tls,
    WorkerGroup: _further_group,
    WorkerTemplate: _worker,
}
