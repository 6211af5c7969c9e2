"""What the kinds share: the base structs, the templates of workers, conditions, and types with bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from .. import names
from ..kubernetes import PodSpec, ServiceSpec

#: Most workers that a group may be asked for. Kubernetes is tested with up to 150,000 Pods in a whole cluster
#: (https://kubernetes.io/docs/setup/best-practices/cluster-large/), so a larger number is a slip, and it costs the
#: operator time and memory.
MAX_WORKERS = 200_000
#: A percentage as a pattern: of a number of workers, up to 999 %.
PERCENTAGE = "[0-9]{1,3}%"
#: What is wrong with zero for both.
NOTHING_TO_UPDATE = "maxSurge and maxUnavailable must not both be 0: no worker could be updated"
#: The key of a label as a pattern, its length apart: rules may not cost too much.
LABEL_KEY = "([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?"
#: The value of a label as a pattern.
LABEL_VALUE = "([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?"
#: The name of a DaskCluster as a pattern, its length apart.
CLUSTER_NAME = "[a-z]([-a-z0-9]*[a-z0-9])?"
#: A DNS name as a pattern, its length apart.
DNS_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
#: ``observedGeneration`` in the status that the API server gives a new resource.
UNOBSERVED = -1


def rule(expression: str, message: str) -> dict[str, str]:
    """One CEL rule (``x-kubernetes-validations``)."""
    return {"rule": expression, "message": message}


def rules(*items: dict[str, str]) -> dict[str, Any]:
    """Schema extension that holds CEL rules."""
    return {"x-kubernetes-validations": list(items)}


def keyed_by(field: str) -> dict[str, Any]:
    """Schema extension of a list whose members server-side apply tells apart by a field."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [field]}


#: Schema extension of a list that server-side apply replaces as a whole.
ATOMIC = {"x-kubernetes-list-type": "atomic"}

VendoredPodSpec = Annotated[PodSpec, Meta(extra_json_schema={"x-vendored": "PodSpec"})]
VendoredServiceSpec = Annotated[ServiceSpec, Meta(extra_json_schema={"x-vendored": "ServiceSpec"})]
# Bounds in `extra_json_schema` are for those who write: the API server and synth keep them. `parse` does not: an object
# from before a bound must be looked after all the same.
IntOrPercent = Annotated[
    int | str,
    Meta(
        extra_json_schema={
            "x-kubernetes-int-or-string": True,
            "minimum": 0,
            "maximum": MAX_WORKERS,
            "pattern": f"^{PERCENTAGE}$",
        }
    ),
]
Workers = Annotated[int, Meta(ge=0, extra_json_schema={"maximum": MAX_WORKERS})]
# Kubernetes' own bound of such numbers. Great ones do no harm, and people write them for "never" or "for ever".
Seconds = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
ClusterName = Annotated[
    str, Meta(min_length=1, max_length=names.MAX_CLUSTER_NAME, extra_json_schema={"pattern": f"^{CLUSTER_NAME}$"})
]
LabelValue = Annotated[str, Meta(extra_json_schema={"maxLength": 63, "pattern": f"^{LABEL_VALUE}$"})]


#: Schema extension of labels.
LABEL_KEYS = rules(
    rule(
        f"self.all(key, key.matches('^{LABEL_KEY}$'))",
        "a key of labels has letters, digits, '-', '_' and '.', maybe after a DNS name and '/'",
    )
)


class Value(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An immutable value; absent fields stay absent when it is written out, and what is said stays, be it a default."""

    #: What leaving a field out means, where saying so expressly is no change, see `without_defaults`.
    DEFAULTS: ClassVar[Mapping[str, Any]] = {}

    def effective(self, field: str) -> Any:
        """A field, or its default."""
        given = getattr(self, field)
        return self.DEFAULTS.get(field) if given is None else given


class TemplateMetadata(Value, frozen=True, kw_only=True):
    """Labels and annotations for the objects made from a template."""

    annotations: dict[str, str] | None = None
    """Annotations of the created objects."""
    labels: (
        Annotated[
            dict[str, LabelValue],
            Meta(extra_json_schema=LABEL_KEYS),
        ]
        | None
    ) = None
    """Labels of the created objects. They never become part of a selector."""


class RollingUpdate(Value, frozen=True, kw_only=True):
    """How many workers a rolling update may add and miss at a time."""

    DEFAULTS = {"max_surge": "25%"}

    max_surge: IntOrPercent | None = None
    """Workers above the wanted number while updating. Percentages, up to 999%, round up. Omitted: 25%."""
    max_unavailable: IntOrPercent | None = None
    """Workers that may be missing while updating. Percentages, up to 999%, round down. Omitted: 0."""


class UpdateStrategy(Value, frozen=True, kw_only=True):
    """What happens to running workers when their template changes."""

    DEFAULTS = {"type": "RollingUpdate"}

    type: Literal["RollingUpdate", "OnDelete"] | None = None
    """`RollingUpdate` replaces outdated workers, drained first; `OnDelete` leaves that to you. Omitted:
    `RollingUpdate`."""
    rolling_update: Annotated[
        RollingUpdate | None,
        Meta(
            extra_json_schema=rules(
                rule(
                    "!has(self.maxSurge) || !has(self.maxUnavailable) || ![self.maxSurge, self.maxUnavailable]"
                    ".all(amount, amount == 0 || (type(amount) == string && amount.matches('^0+%$')))",
                    NOTHING_TO_UPDATE,
                )
            )
        ),
    ] = None


class WorkerTemplate(Value, frozen=True, kw_only=True):
    """Homogeneous worker Pods. A new `kubectl.kubernetes.io/restartedAt` in `metadata.annotations` replaces them."""

    DEFAULTS = {"replicas": 1}

    spec: VendoredPodSpec
    """PodSpec of a worker. Its containers have `DASK_WORKER_NAME` and `DASK_SCHEDULER_ADDRESS`, to which your own
    variables may refer; `env` overrules them, `envFrom` does not."""
    metadata: TemplateMetadata | None = None
    replicas: Workers | None = None
    """Number of worker Pods. Leave it out of Git to let `kubectl scale` or clients decide. Omitted: 1."""
    guaranteed: Workers | None = None
    """With a queue of Kueue, in a group that its cluster states: workers that get quota together with the scheduler or
    not at all; each further one gets it by itself, and may lose it. Omitted: `minimumReadyWorkers` of a job, where that
    is not 0, else the `minimum` of `autoscaler`, else `replicas`."""
    update_strategy: UpdateStrategy | None = None
    drain_timeout_seconds: Seconds | None = None
    """How long a worker that must go, but still runs a task or holds data nobody else has, is kept. Then it is deleted
    all the same and the loss is reported. Omitted: 300; 0: no drain."""

    @property
    def size(self) -> int:
        """How many workers it asks for."""
        return int(self.effective("replicas"))


class Worker(WorkerTemplate, frozen=True, kw_only=True):
    """Homogeneous worker Pods. A new `kubectl.kubernetes.io/restartedAt` in `metadata.annotations` replaces them."""

    replicas: Annotated[Workers | None, Meta(extra_json_schema={"x-default": 1})] = None
    """Number of worker Pods. Leave it out of Git to let `kubectl scale` or clients decide."""


class Condition(Value, frozen=True, kw_only=True):
    """A standard Kubernetes condition."""

    type: Annotated[str, Meta(max_length=316)]
    """What it is about, such as `Ready`."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Meta(max_length=1024)]
    """Why, in one word for programs."""
    message: Annotated[str, Meta(max_length=32768)] = ""
    """Why, for people."""
    last_transition_time: Time
    """When `status` last changed."""
    observed_generation: int | None = None
    """Generation of the spec that it speaks of."""


class Usage(Value, frozen=True, kw_only=True):
    """What Pods have requested, times the seconds for which they had it; metrics tell what has come on top since."""

    cpu_seconds: float
    """CPUs times seconds."""
    memory_gib_seconds: float
    """GiB of memory times seconds."""
    gpu_seconds: float | None = None
    """GPUs times seconds."""
    until: Time
    """Up to when Pods are accounted for."""


class Status(Value, frozen=True, kw_only=True):
    """Observed state of a resource."""

    observed_generation: int | None = None
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[list[Condition], Meta(extra_json_schema=keyed_by("type"))] | None = None
    """`Ready`, `Progressing`, `Reconciling` and `Stalled`, and what the kind adds."""


class CustomResource(Value, frozen=True, kw_only=True):
    """A namespaced custom resource; ``metadata`` is plain Kubernetes metadata."""

    metadata: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return str(self.metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        """``metadata.namespace``."""
        return str(self.metadata.get("namespace", ""))

    @property
    def uid(self) -> str:
        """``metadata.uid``, empty before the API server has seen the object."""
        return str(self.metadata.get("uid", ""))

    @property
    def generation(self) -> int:
        """``metadata.generation``, 0 before the API server has seen the object."""
        return int(self.metadata.get("generation", 0))

    @property
    def kind(self) -> str:
        """Kind, which is the name of the class."""
        return type(self).__name__
