"""Plain manifests as cdk8s objects, and what is wrong with those of our own kinds."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, cast

from cdk8s import ApiObject, ApiObjectMetadata, Chart, JsonPatch
from constructs import Construct
from jsonschema import Draft202012Validator, TypeChecker, validators
from jsonschema.exceptions import ValidationError

from dask_crds import validation
from dask_crds.model import (
    CLUSTER_NAME,
    DNS_NAME,
    FOLDER,
    KINDS,
    LABEL_VALUE,
    PERCENTAGE,
    STORE,
    DaskAutoscaler,
    DaskCluster,
    DaskClusterSpec,
    DaskJob,
    DaskObject,
    DaskWorkerGroup,
    InvalidManifest,
    PodSpec,
    parse,
)
from dask_crds.names import DNS_LABEL, Component
from dask_crds.quantity import AMOUNT, not_whole
from dask_crds.schema import json_schema
from dask_crds.validation.rules import LABEL, NAME
from dask_crds.validation.syntax import MOST_ANNOTATIONS, annotations_size, labels_and_annotations
from dask_resources import history, security
from dask_resources.job import job_cluster
from dask_resources.metadata import child_metadata
from dask_resources.pod import main_container
from dask_resources.scheduler import service_selects
from dask_resources.scheduler_extension import MOUNT_PATH

from .rbac import RBAC_GROUP


def api_object(scope: Construct, id: str, manifest: Mapping[str, Any]) -> ApiObject:
    """The manifest as a cdk8s object.

    In Python ``ApiObject`` takes no other arguments than the metadata (jsii drops the index signature of its props), so
    the rest is added as JSON patches. What was handed in to ``scope``, if that is one of ours, is applied before it.
    """
    body = dict(manifest)
    metadata = dict(body.pop("metadata", {}))
    made = ApiObject(
        scope,
        id,
        api_version=body.pop("apiVersion"),
        kind=body.pop("kind"),
        metadata=ApiObjectMetadata(**metadata),
    )
    for field, value in body.items():
        made.add_json_patch(JsonPatch.add(f"/{field}", value))
    for one in getattr(scope, "handed_in", ()):
        one.precedes(made)
    return made


def cluster_scoped(scope: Construct, id: str, manifest: Mapping[str, Any]) -> ApiObject:
    """The manifest as a cdk8s object without the chart's namespace, which cdk8s stamps on everything."""
    made = api_object(scope, id, manifest)
    if Chart.of(made).namespace is not None:
        made.add_json_patch(JsonPatch.remove("/metadata/namespace"))
    return made


def misnamed(made: ApiObject) -> Iterator[tuple[str, str]]:
    """What is wrong with name, namespace, labels and annotations of an object of any kind, as field and message."""
    metadata = made.metadata.to_json()
    if made.name and made.api_group != RBAC_GROUP:  # whose names may be nearly anything
        yield from (LABEL if made.kind == "Namespace" else NAME)("metadata.name", made.name)
    if metadata.get("namespace"):
        yield from LABEL("metadata.namespace", metadata["namespace"])
    yield from labels_and_annotations("metadata", metadata.get("labels"), metadata.get("annotations"))


# --- checks -----------------------------------------------------------------------------------------------------------


def problems(manifest: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a manifest of one of our kinds, as ``field: message``; empty if nothing is.

    Unknown fields and wrong types by the JSON schema, then what the API server's rules and Kubernetes itself would
    refuse (``dask_crds.validation``).
    """
    found: list[tuple[str, str]] = []
    if manifest.get("kind") in KINDS:
        errors = _validator(manifest["kind"]).iter_errors(manifest)
        # The API server drops nulls, and existing clients send them; `parse` says so where a field is required.
        found = [line for error in errors if error.instance is not None for line in explained(error)]
    try:
        value = parse(dict(manifest))
        semantic = validation.problems(value)
        semantic += (
            []
            if found or semantic
            else [*_scheduler_problems(value), *_taken_paths(value), *_annotation_problems(value)]
        )
    except InvalidManifest as error:  # the schema says the same, and all of it
        semantic = [] if found else [error]
    told = {path for path, _ in found}
    found += [(problem.path, problem.message) for problem in semantic if problem.path not in told]
    return [f"{path}: {message}" if path else message for path, message in found]


def _annotation_problems(value: DaskObject) -> Iterator[InvalidManifest]:
    """Annotations that are too large with what the operator adds: it keeps what a child has from its user beside it."""
    size = annotations_size(child_metadata(value, "", labels={}).get("annotations") or {})
    if size > MOST_ANNOTATIONS - _OPERATORS_ANNOTATIONS and not isinstance(value, DaskAutoscaler):
        message = f"would be {size:,} bytes on what is made of the resource, at most {MOST_ANNOTATIONS:,} are possible"
        yield InvalidManifest("metadata.annotations", message)


#: Bytes that the operator's own annotations have at most.
_OPERATORS_ANNOTATIONS = 1024


def _scheduler_problems(value: DaskObject) -> Iterator[InvalidManifest]:
    """What does not go with what the operator makes of a scheduler."""
    cluster = parse(job_cluster(value)) if isinstance(value, DaskJob) else value
    if not isinstance(cluster, DaskCluster):
        return
    path = "spec.cluster.spec.scheduler" if isinstance(value, DaskJob) else "spec.scheduler"
    if not service_selects(cluster):  # copied from another cluster, say
        message = "does not match the scheduler's Pod, so nothing would be found behind the Service: leave it out"
        yield InvalidManifest(f"{path}.service.selector", message)


def _taken_paths(value: DaskObject) -> Iterator[InvalidManifest]:
    """Mounts of users at paths where the operator mounts what is its own."""
    cluster, path = (
        (value.spec.cluster.spec, "spec.cluster.spec") if isinstance(value, DaskJob) else (value.spec, "spec")
    )
    if isinstance(value, DaskWorkerGroup):
        yield from _mounted_at(f"{path}.worker", value.spec.worker.spec, Component.WORKER, _OF_WORKERS)
    if not isinstance(cluster, DaskClusterSpec):
        return
    tls = _OF_TLS if cluster.security and cluster.security.tls else {}
    of_scheduler = _OF_SCHEDULERS | tls | (_OF_HISTORY if cluster.history and cluster.history.claim_name else {})
    yield from _mounted_at(f"{path}.scheduler", cluster.scheduler.spec, Component.SCHEDULER, of_scheduler)
    workers = {"worker": cluster.worker.spec}
    workers |= {f"workerGroups[{number}]": group.spec for number, group in enumerate(cluster.worker_groups or ())}
    for field, spec in workers.items():
        yield from _mounted_at(f"{path}.{field}", spec, Component.WORKER, _OF_WORKERS | tls)
    if isinstance(value, DaskJob):
        yield from _mounted_at("spec.job", value.spec.job.spec, Component.JOB_RUNNER, tls)


#: What is mounted where.
_OF_WORKERS = {security.MOUNT_PATH: "the cluster's key"}
_OF_SCHEDULERS = {MOUNT_PATH: "the scheduler's module", **_OF_WORKERS}
_OF_TLS = {security.TLS_PATH: "the cluster's certificates"}
_OF_HISTORY = {history.MOUNT_PATH: "the volume of the history"}


def _mounted_at(path: str, spec: PodSpec, component: str, taken: Mapping[str, str]) -> Iterator[InvalidManifest]:
    main = main_container(spec, component) if spec["containers"] else None
    for at, container in enumerate(spec["containers"]):
        for number, mount in enumerate(container.get("volumeMounts") or ()) if container["name"] == main else ():
            where = mount["mountPath"].rstrip("/")
            if where in taken:
                message = f"{where} is where the operator mounts {taken[where]}: choose another path"
                yield InvalidManifest(f"{path}.spec.containers[{at}].volumeMounts[{number}].mountPath", message)


@cache
def _validator(kind: str) -> Draft202012Validator:
    return _Validator(json_schema(kind))


def _is_whole(_: TypeChecker, value: object) -> bool:
    """A number that is whole and not too large for those who read JSON in Go; YAML's ``1.0`` is 1 to them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == value // 1 and -(2**63) <= value < 2**63


def _pattern(
    _: Draft202012Validator, pattern: str, value: object, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """As Go reads patterns: nothing comes after ``$``, while Python lets the end of a line follow."""
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_Validator: type[Draft202012Validator] = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"pattern": _pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole),
)


def explained(error: ValidationError) -> Iterator[tuple[str, str]]:
    """What jsonschema found, as field and message; fields are written as ``kubectl`` writes them."""
    path = _path(error.absolute_path)
    match error.validator:
        case "additionalProperties":
            known = cast("dict[str, Any]", error.schema)["properties"]
            for field in cast("dict[str, Any]", error.instance):
                if field not in known:
                    similar = difflib.get_close_matches(str(field), known, n=1)
                    hint = f", did you mean {similar[0]!r}?" if similar else ""
                    yield _path([*error.absolute_path, field]), f"unknown field{hint}"
        case "required":
            (field,) = re.findall(r"^'(.*)' is a required property$", error.message)
            yield _path([*error.absolute_path, field]), "is missing"
        case "type":
            yield path, f"must be of type {error.validator_value}, not {reprlib.repr(error.instance)}"
        case "maxLength":  # whatever is so long is not repeated
            limit = f"must have at most {error.validator_value} characters"
            yield path, f"{limit}, has {len(cast('str', error.instance))}"
        case "maxItems" | "maxProperties":
            most, has = cast("int", error.validator_value), len(cast("list[Any]", error.instance))
            yield path, f"must have at most {most} members, has {has}" if most else "must be left out"
        case "pattern":
            yield path, f"{reprlib.repr(error.instance)} {_PATTERNS[cast('str', error.validator_value)]}"
        case "anyOf":  # the one use that the schemas make of it: int-or-string
            if isinstance(error.instance, float):
                yield path, not_whole(error.instance)
            else:
                yield path, f"must be a number or a string, not {reprlib.repr(error.instance)}"
        case _:
            yield path, error.message


#: What the patterns of the schemas mean.
_PATTERNS = {
    f"^{CLUSTER_NAME}$": "must be a DNS label that starts with a letter: the Service is named after it",
    f"^{PERCENTAGE}$": "must be a number or a percentage up to 999%",
    f"^{LABEL_VALUE}$": "is not a label: at most 63 letters, digits, '-', '_' and '.'",
    f"^{DNS_NAME}$": "must be a DNS name: a-z, 0-9, '-' and '.', at most 253 characters",
    f"^{FOLDER}$": "is no folder within the volume, such as dask/runs: no '..', and no '/' or '.' at the beginning",
    f"^{STORE}$": "is no folder of an object store: s3://bucket/folder, gs://, az:// or abfs://, and nothing but names",
    f"^{DNS_LABEL}$": "must be a DNS label: a-z, 0-9 and '-', at most 63 characters",
    AMOUNT: "is not a Kubernetes quantity such as 500m, 1.5 or 4Gi",
}


def _path(fields: Iterable[str | int]) -> str:
    return "".join(f"[{field}]" if isinstance(field, int) else f".{field}" for field in fields).removeprefix(".")
