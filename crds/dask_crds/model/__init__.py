"""The four kinds as immutable values: the one source of the API.

The CRDs, the JSON schemas, the reference page and the constructs' properties all derive from these structs, a file per
kind. The docstring below a field is what users read of it (``kubectl explain``, the reference); its ``Meta`` has
nothing but constraints, and ``Meta(extra_json_schema=...)`` those that only Kubernetes knows (CEL rules, list types).
"""

from __future__ import annotations

from typing import Any, cast, get_args

import msgspec

from .. import names
from ..kubernetes import PodSpec, ServiceSpec
from .autoscaler import (
    AutoscalerBehavior,
    Autoscaling,
    DaskAutoscaler,
    DaskAutoscalerSpec,
    DaskAutoscalerStatus,
    Recommendation,
    ScaleEvent,
    ScalingPolicy,
    ScalingRules,
)
from .cluster import (
    DEFAULT_GROUP_IS_TAKEN,
    MAX_WORKER_GROUPS,
    WAKE_NEEDS_ADDRESS,
    DaskCluster,
    DaskClusterSpec,
    DaskClusterStatus,
    Scheduler,
    SchedulerUpdateStrategy,
    WorkerGroup,
)
from .history import FOLDER, MAX_FOLDER, MAX_STORE, MOST_RECORDS, STORE, Bundle, History
from .job import (
    DaskJob,
    DaskJobSpec,
    DaskJobStatus,
    JobCluster,
    JobTemplate,
    OnExitCodes,
    OnPodCondition,
    PastRun,
    PodFailurePolicy,
    PodFailureRule,
    Progress,
    SchedulerLoss,
    TimeSpent,
)
from .manifest import InvalidManifest, dump, stated, without_defaults, without_nulls
from .security import Certificate, Security, Tls
from .shared import (
    CLUSTER_NAME,
    DNS_NAME,
    LABEL_VALUE,
    MAX_WORKERS,
    NOTHING_TO_UPDATE,
    PERCENTAGE,
    UNOBSERVED,
    Condition,
    RollingUpdate,
    TemplateMetadata,
    UpdateStrategy,
    Usage,
    Worker,
    WorkerTemplate,
)
from .worker_group import DaskWorkerGroup, DaskWorkerGroupSpec, DaskWorkerGroupStatus, DrainingWorker

__all__ = [
    "CLUSTER_NAME",
    "DEFAULT_GROUP_IS_TAKEN",
    "DNS_NAME",
    "FOLDER",
    "KINDS",
    "LABEL_VALUE",
    "MAX_FOLDER",
    "MAX_STORE",
    "MAX_WORKERS",
    "MAX_WORKER_GROUPS",
    "MOST_RECORDS",
    "NOTHING_TO_UPDATE",
    "PERCENTAGE",
    "STORE",
    "UNOBSERVED",
    "WAKE_NEEDS_ADDRESS",
    "AutoscalerBehavior",
    "Autoscaling",
    "Bundle",
    "Certificate",
    "Condition",
    "DaskAutoscaler",
    "DaskAutoscalerSpec",
    "DaskAutoscalerStatus",
    "DaskCluster",
    "DaskClusterSpec",
    "DaskClusterStatus",
    "DaskJob",
    "DaskJobSpec",
    "DaskJobStatus",
    "DaskObject",
    "DaskWorkerGroup",
    "DaskWorkerGroupSpec",
    "DaskWorkerGroupStatus",
    "DrainingWorker",
    "History",
    "InvalidManifest",
    "JobCluster",
    "JobTemplate",
    "OnExitCodes",
    "OnPodCondition",
    "PastRun",
    "PodFailurePolicy",
    "PodFailureRule",
    "PodSpec",
    "Progress",
    "Recommendation",
    "RollingUpdate",
    "ScaleEvent",
    "ScalingPolicy",
    "ScalingRules",
    "Scheduler",
    "SchedulerLoss",
    "SchedulerUpdateStrategy",
    "Security",
    "ServiceSpec",
    "TemplateMetadata",
    "TimeSpent",
    "Tls",
    "UpdateStrategy",
    "Usage",
    "Worker",
    "WorkerGroup",
    "WorkerTemplate",
    "dump",
    "parse",
    "stated",
    "without_defaults",
    "without_nulls",
]

DaskObject = DaskCluster | DaskWorkerGroup | DaskJob | DaskAutoscaler
KINDS: dict[str, type[DaskObject]] = {model.__name__: model for model in get_args(DaskObject)}


def parse(manifest: dict[str, Any]) -> DaskObject:
    """The typed value of a manifest.

    Explicit nulls count as absent, as they do at the API server; existing clients send them. Unknown fields are
    ignored (strict validation is the business of synth and of the API server).

    Raises:
        InvalidManifest: not one of the four kinds, or a field of the wrong type or out of bounds.
    """
    kind = manifest.get("kind")
    if manifest.get("apiVersion") != names.API_VERSION or kind not in KINDS:
        raise InvalidManifest(
            "", f"{manifest.get('apiVersion')} {kind} is not one of {', '.join(KINDS)} of {names.API_VERSION}"
        )
    try:
        return _as_observed(msgspec.convert(_without_nulls(manifest), KINDS[kind]))
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidManifest(path.rstrip("`"), message) from None


def _without_nulls(manifest: dict[str, Any]) -> dict[str, Any]:
    """As `without_nulls`, but for ``managedFields``, which anybody may write as deep as they like."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return cast("dict[str, Any]", without_nulls(manifest))
    managed = metadata["managedFields"]
    data = without_nulls({**manifest, "metadata": {**metadata, "managedFields": None}})
    return {**data, "metadata": {**data["metadata"], **({} if managed is None else {"managedFields": managed})}}


def _as_observed(value: DaskObject) -> DaskObject:
    """Without what status says before anybody has looked: it is there for clients, and speaks of nothing yet."""
    status = value.status
    if status.observed_generation == UNOBSERVED:
        return msgspec.structs.replace(value, status=type(status)())
    if isinstance(value, DaskJob) and value.status.revision is None:
        return msgspec.structs.replace(value, status=_since_the_first(value))
    return value


def _since_the_first(job: DaskJob) -> DaskJobStatus:
    """The status of a job of which it was not noted what runs.

    Either nothing could be done about it but to say why, so that no run has begun. Or an operator who took the first
    status for its own has begun one and not noted which: that of the present spec, which must not be repeated.
    """
    status = job.status
    if status.job_status in (None, "JobCreated"):
        return msgspec.structs.replace(status, job_status=None)
    return msgspec.structs.replace(status, run_id=status.run_id or job.spec.run_id)
