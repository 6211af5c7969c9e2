"""Mistakes that the types do not show: the API server's CEL rules, told offline, and what Kubernetes refuses later.

The API server checks most of this too (``schema.py``), but a Pod's errors show only when the operator creates it. Here
they are said at synth time, with the field's name, and in the status. Hence only what is refused in any cluster is
reported: what is valid in some must pass.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

import msgspec

from . import names
from .kubernetes import Container, PodSpec, ResourceRequirements, structural_schema
from .merge import list_key
from .model import (
    LABEL_VALUE,
    NOTHING_TO_UPDATE,
    PERCENTAGE,
    DaskAutoscaler,
    DaskCluster,
    DaskClusterSpec,
    DaskJob,
    DaskWorkerGroup,
    InvalidManifest,
    Kind,
    Scheduler,
    TemplateMetadata,
    Worker,
    dump,
)
from .quantity import parse_quantity
from .schema import structural

_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_LABEL = re.compile(r"(?!.{64})[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_NAME = re.compile(r"(?!.{254})[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(rf"(?!.{{64}}){LABEL_VALUE}")
_KEY_NAME = re.compile(r"(?!.{64})[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?")
_PERCENTAGE = re.compile(PERCENTAGE)

#: Largest ``spec``, as compact JSON. The annotation of plain ``kubectl apply`` holds no more, etcd not much more; and
#: the operator keeps every spec in memory, and writes it once more into what it makes of it.
LARGEST_SPEC_BYTES = 256 * 1024

Problems = Iterator[tuple[str, str]]  #: field, what is wrong with it


def problems(value: Kind) -> list[InvalidManifest]:
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


def _problems(value: Kind) -> Problems:
    if size := too_large(value.spec):
        yield "spec", size.removeprefix("spec ")
    yield from _name(value)
    yield from _keys("metadata", value.metadata.get("labels"), value.metadata.get("annotations"))
    match value:
        case DaskCluster():
            yield from _cluster("spec", value.spec)
        case DaskWorkerGroup():
            yield from _cluster_name("spec.cluster", value.spec.cluster)
            yield from _worker("spec.worker", value.spec.worker)
        case DaskJob():
            yield from _labels("spec.cluster.metadata", value.spec.cluster.metadata)
            yield from _cluster("spec.cluster.spec", value.spec.cluster.spec)
            yield from _labels("spec.job.metadata", value.spec.job.metadata)
            yield from _pod("spec.job.spec", value.spec.job.spec)
            if value.spec.job.spec.get("restartPolicy") == "Always":
                yield "spec.job.spec.restartPolicy", "must be Never or OnFailure: a runner runs to completion"
            yield from _failure_policy("spec.podFailurePolicy", value)
            if value.spec.cluster.spec.idle_action == "Suspend":
                yield "spec.cluster.spec.idleAction", "must be Delete: a job's cluster is suspended with the job"
        case DaskAutoscaler():
            yield from _cluster_name("spec.cluster", value.spec.cluster)
            if value.spec.maximum is not None and value.spec.minimum > value.spec.maximum:
                comparison = f"{value.spec.minimum} > {value.spec.maximum}"
                yield "spec.minimum", f"must not be greater than spec.maximum ({comparison})"


# --- bounds -----------------------------------------------------------------------------------------------------------


def _bounds(path: str, schema: Mapping[str, Any], value: Any) -> Problems:
    """Numbers and texts beyond the schema's bounds, as far as ``parse`` lets them pass."""
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
_SUFFIX, _LONGEST_PREFIX = "xxxxx", 58


def _name(value: Kind) -> Problems:
    """``metadata.name``, or any name that can be made of ``metadata.generateName``."""
    prefix = value.metadata.get("generateName")
    if value.name or not isinstance(prefix, str) or not prefix:
        yield from _own_name("metadata.name", value, value.name)
        return
    for path, message in _own_name("metadata.generateName", value, prefix[:_LONGEST_PREFIX] + _SUFFIX):
        yield path, f"with {len(_SUFFIX)} characters appended: {message}"


def _own_name(path: str, value: Kind, name: str) -> Problems:
    match value:
        case DaskCluster() | DaskJob():
            yield from _cluster_name(path, name)
        case DaskWorkerGroup():
            yield from _group_name(path, name)
        case DaskAutoscaler():
            if not _DNS_NAME.fullmatch(name):
                yield path, f"{name!r} must be a DNS name: a-z, 0-9, '-' and '.', at most 253 characters"


def _cluster_name(path: str, name: str) -> Problems:
    if len(name) > names.MAX_CLUSTER_NAME:
        limit = f"must have at most {names.MAX_CLUSTER_NAME} characters, has {len(name)}"
        yield path, f"{limit}: the Service is named <name>-scheduler"
    if not _SERVICE_NAME.fullmatch(name):
        yield path, f"{name!r} must be a DNS label that starts with a letter: the Service is named after it"


def _group_name(path: str, name: str) -> Problems:
    if len(name) > names.MAX_GROUP_NAME:
        limit = f"must have at most {names.MAX_GROUP_NAME} characters, has {len(name)}"
        yield path, f"{limit}: it is a label of the workers"
    if not _DNS_NAME.fullmatch(name):
        yield path, f"{name!r} must be a DNS name: the workers are named after it"


def _labels(path: str, metadata: TemplateMetadata | None) -> Problems:
    if metadata is not None:
        yield from _keys(path, metadata.labels, metadata.annotations)


def _keys(path: str, labels: object, annotations: object) -> Problems:
    """Labels and annotations of an object; its own are of any form here."""
    for field, keys in (("labels", labels), ("annotations", annotations)):
        if keys is not None and not isinstance(keys, Mapping):
            yield f"{path}.{field}", f"must be an object, not {reprlib.repr(keys)}"
            continue
        for key, value in (keys or {}).items():
            if not _is_key(str(key) if field == "labels" else str(key).lower()):
                example = "letters, digits, '-', '_' and '.', at most 63, maybe after a DNS name and '/'"
                yield f"{path}.{field}", f"{reprlib.repr(key)} is not a key: {example}"
            if not isinstance(value, str):
                yield f"{path}.{field}.{key}", f"must be text, not {reprlib.repr(value)}: put it in quotes"
            elif field == "labels" and not _LABEL_VALUE.fullmatch(value):
                limit = "at most 63 letters, digits, '-', '_' and '.'"
                yield f"{path}.{field}.{key}", f"{reprlib.repr(value)} is not a label: {limit}"


def _is_key(key: str) -> bool:
    domain, slash, name = key.rpartition("/")
    return bool(_KEY_NAME.fullmatch(name)) and (not slash or bool(_DNS_NAME.fullmatch(domain)))


# --- templates --------------------------------------------------------------------------------------------------------


def _cluster(path: str, spec: DaskClusterSpec) -> Problems:
    yield from _scheduler(f"{path}.scheduler", spec.scheduler)
    yield from _worker(f"{path}.worker", spec.worker)


def _failure_policy(path: str, job: DaskJob) -> Problems:
    policy = job.spec.pod_failure_policy
    if policy is None:
        return
    if (job.spec.job.spec.get("restartPolicy") or "Never") != "Never":
        yield path, "needs restartPolicy Never of the runner"
    for number, rule in enumerate(policy.rules):
        if (rule.on_exit_codes is None) == (rule.on_pod_conditions is None):
            yield f"{path}.rules[{number}]", "must have either onExitCodes or onPodConditions"
        if rule.on_exit_codes and rule.on_exit_codes.operator == "In" and 0 in rule.on_exit_codes.values:
            yield f"{path}.rules[{number}].onExitCodes.values", "must not have 0, which is no failure"


def _scheduler(path: str, scheduler: Scheduler) -> Problems:
    yield from _labels(f"{path}.metadata", scheduler.metadata)
    yield from _pod(f"{path}.spec", scheduler.spec)
    # Deployments allow nothing else.
    if (scheduler.spec.get("restartPolicy") or "Always") != "Always":
        yield f"{path}.spec.restartPolicy", "must be Always: the scheduler runs in a Deployment"
    if scheduler.spec.get("activeDeadlineSeconds") is not None:
        yield f"{path}.spec.activeDeadlineSeconds", "is not possible: the scheduler runs in a Deployment"


def _worker(path: str, worker: Worker) -> Problems:
    yield from _labels(f"{path}.metadata", worker.metadata)
    yield from _pod(f"{path}.spec", worker.spec)
    rolling = worker.update_strategy and worker.update_strategy.rolling_update
    if rolling:
        amounts = {"maxSurge": rolling.max_surge, "maxUnavailable": rolling.max_unavailable}
        for field, amount in amounts.items():
            if amount is None:
                continue
            fits = amount >= 0 if isinstance(amount, int) else bool(_PERCENTAGE.fullmatch(amount))
            if not fits:
                written = reprlib.repr(amount)
                yield (
                    f"{path}.updateStrategy.rollingUpdate.{field}",
                    f"{written} must be a number or a percentage up to 999%",
                )
        if all(map(_is_nothing, amounts.values())):
            yield f"{path}.updateStrategy.rollingUpdate", NOTHING_TO_UPDATE


def _is_nothing(amount: int | str | None) -> bool:
    return amount == 0 or (isinstance(amount, str) and re.fullmatch("0+%", amount) is not None)


# --- Pods -------------------------------------------------------------------------------------------------------------


def _pod(path: str, spec: PodSpec) -> Problems:
    yield from _repeated(path, _pod_schema(), spec)
    if not spec["containers"]:
        yield f"{path}.containers", "must have at least one container"
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    containers = {"initContainers": spec.get("initContainers") or (), "containers": spec["containers"]}
    for field, members in containers.items():
        for number, container in enumerate(members):
            yield from _container(f"{path}.{field}[{number}]", container, volumes)
    yield from _resources(path, spec.get("resources"))
    for key, value in (spec.get("nodeSelector") or {}).items():
        if not _is_key(key) or not _LABEL_VALUE.fullmatch(value):
            yield f"{path}.nodeSelector", f"{reprlib.repr(key)}: {reprlib.repr(value)} is no label that a node can have"


def _container(path: str, container: Container, volumes: set[str]) -> Problems:
    if not _DNS_LABEL.fullmatch(container["name"]):
        yield f"{path}.name", f"{container['name']!r} must be a DNS label: a-z, 0-9 and -, at most 63 characters"
    if not container.get("image"):
        yield f"{path}.image", "is missing"
    uses = {"volumeMounts": container.get("volumeMounts"), "volumeDevices": container.get("volumeDevices")}
    for field, members in uses.items():
        for number, member in enumerate(members or ()):
            if member["name"] not in volumes:
                yield f"{path}.{field}[{number}].name", f"there is no volume {member['name']!r}"
    yield from _resources(path, container.get("resources"))


def _resources(path: str, resources: ResourceRequirements | None) -> Problems:
    yield from _amounts(f"{path}.resources", cast("Mapping[str, Mapping[str, int | float | str]]", resources or {}))


def _amounts(path: str, resources: Mapping[str, Mapping[str, int | float | str]]) -> Problems:
    """Requests and limits: quantities, of which no request exceeds its limit."""
    parsed: dict[tuple[str, str], Any] = {}
    for field in ("requests", "limits"):
        for resource, amount in (resources.get(field) or {}).items():
            try:
                parsed[field, resource] = parse_quantity(amount)
            except ValueError as error:
                yield f"{path}.{field}.{resource}", str(error)
                continue
            if isinstance(amount, float) and not amount.is_integer():
                yield f"{path}.{field}.{resource}", not_whole(amount)
            elif parsed[field, resource] < 0:
                yield f"{path}.{field}.{resource}", f"{amount} is less than the minimum of 0"
    for (field, resource), amount in parsed.items():
        limit = parsed.get(("limits", resource))
        if field == "requests" and limit is not None and amount > limit:
            written = f"{resources['requests'][resource]} > {resources['limits'][resource]}"
            yield f"{path}.requests.{resource}", f"must not be greater than the limit ({written})"


def not_whole(number: float) -> str:
    """What to say of a number where the API server takes whole ones and text only."""
    return f"must be a whole number or text, not {number!r}: put it in quotes, '{number!r}'"


def _repeated(path: str, schema: Mapping[str, Any], value: Any) -> Problems:
    """Members of a list that share a key which the list's members must differ in (containers by name ...)."""
    if isinstance(value, Mapping):
        for field, member in value.items():
            yield from _repeated(f"{path}.{field}", schema.get("properties", {}).get(field, {}), member)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        keys = schema.get("x-kubernetes-list-map-keys")
        seen: set[tuple[Any, ...]] = set()
        for number, member in enumerate(value):
            if keys:
                key = list_key(schema, member)
                if key in seen:
                    shared = ", ".join(f"{name} {part!r}" for name, part in zip(keys, key, strict=True))
                    yield f"{path}[{number}]", f"{shared} is used twice"
                seen.add(key)
            yield from _repeated(f"{path}[{number}]", schema.get("items", {}), member)


@cache
def _pod_schema() -> dict[str, Any]:
    return structural_schema("PodSpec")
