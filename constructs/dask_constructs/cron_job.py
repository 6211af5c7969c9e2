"""A DaskJob on a schedule, with Kubernetes' own means: a CronJob whose Pod creates it and waits for its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Required, Unpack
from zoneinfo import available_timezones

import yaml
from cdk8s import ApiObject
from constructs import Construct

from dask_crds import names
from dask_crds.inheritance import inherited
from dask_crds.model import DaskJobSpec, dump
from dask_crds.names import Annotation, Component, Label

from . import rbac, templates
from .agreement import too_few_workers
from .job import ProgramProps
from .keywords import Options
from .manifest import api_object
from .operator_pod import DEFAULT_IMAGE, SCRATCH
from .options import PodChange, Resources
from .origins import Call, Manifest, findings, with_origins
from .rbac import RBAC_GROUP
from .resource import DaskConstruct, Metadata, exact_form, queue_labels, resource_manifest
from .restricted import RESTRICTED_CONTAINER, RESTRICTED_POD
from .schedule import schedule_problem
from .security import add_certificates
from .templates import changed
from .values import Count, Seconds, ServiceAccount, Text

#: Jobs, and so their DaskJobs and clusters, are named like the CronJob, with a dash and ten digits at most.
_MAX_NAME = names.MAX_CLUSTER_NAME - 11
_MANIFEST = "dask-job.yaml"
_STARTER_RESOURCES = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
#: Exit codes of ``dask-controller start`` that trying again does not help with.
_FINAL = [2, 3]


class ScheduleOptions(Metadata, total=False):
    """When a DaskCronJob runs; as in a batch/v1 CronJob."""

    time_zone: Text | None
    """Time zone of the schedule, ``Europe/Vienna`` say (default: that of Kubernetes, mostly UTC)."""
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] | None
    """When it is time and the last run has not ended: skip this one (``Forbid``, the default), run both (``Allow``), or
    end the last one (``Replace``)."""
    starting_deadline: Seconds | None
    """Seconds after which a time that was missed, by an outage say, is skipped."""
    suspend: bool | None
    """Skip all times until this is ``False`` again."""
    successful_history: Count | None
    """How many runs that succeeded are kept (default 3)."""
    failed_history: Count | None
    """How many runs that failed are kept (default 1)."""
    starter_service_account: ServiceAccount | None
    """ServiceAccount that may create and read DaskJobs, such as that of ``DaskTenant``; left out, the construct brings
    one of its own, with the permission."""
    operator_image: Text | None
    """Image of the operator, whose program creates the DaskJobs."""
    starter_resources: Resources | None
    """Requests and limits of that program, ``{"limits": {"memory": "128Mi"}}`` say (default: 10m of CPU and 64Mi are
    requested, 1 and 256Mi the limits). Its Pod lasts as long as the run."""
    starter_pod: PodChange
    """Last word on the Pod that creates them and waits. It has the runner's pull secrets, node selector and
    tolerations, and the labels and annotations of the CronJob."""


class ScheduleProps(ScheduleOptions, total=False):
    """Keyword arguments of ``DaskCronJob.from_spec``."""

    schedule: Required[Text]
    """Five fields of cron, or ``@daily`` and its like."""


class CronJobProps(ProgramProps, ScheduleProps, total=False):
    """Keyword arguments of ``DaskCronJob``."""


class DaskCronJob(DaskConstruct):
    """A program that runs at set times, each time beside a cluster of its own.

    >>> DaskCronJob(chart, "report", schedule="0 6 * * 1-5", time_zone="Europe/Vienna",
    ...     image="registry/report:1.4", command=["python", "-m", "report"], workers=8)

    Each time makes a Job, as with any CronJob, whose Pod creates a DaskJob of the same name and lasts as long. So
    concurrency policy, history limits, ``suspend`` and ``kubectl create job NAME --from=cronjob/report`` do what people
    know them to do. The DaskJob belongs to the Job, and goes with it.

    A ``name`` has at most 42 characters.

    Attributes:
        cron_job: the CronJob, for ``add_json_patch``.
    """

    def __init__(self, scope: Construct, id: str, **props: Unpack[CronJobProps]) -> None:
        """Declare it with the keyword arguments of ``CronJobProps``, where each is explained."""
        super().__init__(scope, id)
        options = self._accepted(props, CronJobProps)
        self._build(lambda options: dump(templates.job_spec(options)), options)

    @classmethod
    def from_spec(
        cls, scope: Construct, id: str, *, spec: DaskJobSpec | Mapping[str, Any], **props: Unpack[ScheduleProps]
    ) -> DaskCronJob:
        """Jobs exactly as ``spec`` says: a struct, or a mapping, which may be a whole manifest."""
        return _ExactCronJob(scope, id, spec, props)

    def _build(self, spec: Callable[[Options], dict[str, Any]], options: Options) -> None:
        metadata: dict[str, Any] = {key: options[key] for key in Metadata.__annotations__ if key in options}
        other = self._other_name(options, _MAX_NAME)
        self._metadata = {"name": other, **metadata}
        self._options = options
        name = self._metadata["name"]
        self._job: dict[str, Any] = {"apiVersion": names.API_VERSION, "kind": "DaskJob"}
        if passed_on := {key: metadata[key] for key in ("labels", "annotations") if key in metadata}:
            self._job["metadata"] = passed_on
        if queue := queue_labels(options):
            self._job["metadata"] = {**passed_on, "labels": {**passed_on.get("labels", {}), **queue}}

        def spec_of(options: Options) -> dict[str, Any]:
            return spec({**options, "name": options.get("name", other)})

        self._job["spec"] = spec_of(options)
        self._calls = [Call(options, lambda _, o: resource_manifest("DaskJob", o.get("name", other), spec_of(o), o))]
        account = options.get("starter_service_account") or starter_account(self, f"{name}-starter", self.namespace)
        self._object("job", "v1", "ConfigMap", data={_MANIFEST: yaml.safe_dump(self._job, sort_keys=False)})
        stated = {
            "schedule": options.get("schedule", "@daily"),
            "timeZone": options.get("time_zone"),
            "concurrencyPolicy": options.get("concurrency_policy", "Forbid"),
            "startingDeadlineSeconds": options.get("starting_deadline"),
            "suspend": options.get("suspend"),
            "successfulJobsHistoryLimit": options.get("successful_history", 3),
            "failedJobsHistoryLimit": options.get("failed_history", 1),
            "jobTemplate": {"spec": self._starter(account, options.get("operator_image", DEFAULT_IMAGE))},
        }
        given = {field: value for field, value in stated.items() if value is not None}
        self.cron_job = self._object("cron-job", "batch/v1", "CronJob", spec=given)
        add_certificates(self, options.get("security"), name, self.namespace)

    @property
    def name(self) -> str:
        """``metadata.name`` of the CronJob."""
        return str(self._metadata["name"])

    def _starter(self, account: str, image: str) -> dict[str, Any]:
        spec = _starter(account, self.name, image, self._options.get("starter_resources", _STARTER_RESOURCES))
        template = spec["template"]
        pod: Any = {**template["spec"], **_where(self._job["spec"])}
        template["spec"] = changed(pod, self._options, "starter_pod")
        # It may be moved at any time, see the Job's failure policy.
        defaults = {"annotations": {Annotation.SAFE_TO_EVICT_VOLUMES: SCRATCH}}
        for field in ("labels", "annotations"):
            inherits = inherited(self._metadata.get(field))
            template["metadata"][field] = {**defaults.get(field, {}), **inherits, **template["metadata"].get(field, {})}
        return spec

    def _object(self, id: str, api_version: str, kind: str, **body: Any) -> ApiObject:
        manifest = {"apiVersion": api_version, "kind": kind, "metadata": self._metadata, **body}
        return api_object(self, id, manifest)

    def _problems(self) -> Iterator[str]:
        found = _findings(resource_manifest("DaskJob", self.name, self._job["spec"], self._metadata))
        yield from with_origins(found, self._calls, _findings)
        if (trouble := schedule_problem(self._options.get("schedule", "@daily"))) is not None:
            yield f"schedule: {trouble}"
        zone = self._options.get("time_zone")
        if zone is not None and zone not in available_timezones():
            yield f"time_zone: {zone!r} is not known"
        if self.namespace is None and "starter_service_account" not in self._options:
            yield "namespace: is missing here and in the chart; the permission to create DaskJobs is for one namespace"


def _findings(job: Manifest) -> Iterator[str]:
    """What is wrong with the DaskJobs, which are named like the CronJob, with some characters more."""
    name = job["metadata"]["name"]
    if len(name) > _MAX_NAME:
        yield f"metadata.name: must have at most {_MAX_NAME} characters, has {len(name)}"
    found = findings({**job, "metadata": {**job["metadata"], "name": name[:_MAX_NAME]}})
    yield from found or too_few_workers(job)
    if "runId" in job["spec"]:
        yield "spec.runId: each time is a DaskJob of its own, which runs once"


class _ExactCronJob(DaskCronJob):
    def __init__(self, scope: Construct, id: str, spec: DaskJobSpec | Mapping[str, Any], props: ScheduleProps) -> None:
        DaskConstruct.__init__(self, scope, id)
        body, own = exact_form(spec, "DaskJob")
        self._build(lambda _: body, self._accepted({**own, **props}, ScheduleProps))


def starter_account(scope: Construct, name: str, namespace: str | None) -> str:
    """A ServiceAccount that may create and read DaskJobs and nothing else; its name is returned."""
    where = {} if namespace is None else {"namespace": namespace}
    bodies: dict[str, dict[str, Any]] = {
        "ServiceAccount": {"apiVersion": "v1", "automountServiceAccountToken": False},
        "Role": {"apiVersion": f"{RBAC_GROUP}/v1", "rules": rbac.rules(rbac.JOB_STARTER)},
        "RoleBinding": {
            "apiVersion": f"{RBAC_GROUP}/v1",
            "roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, **where}],
        },
    }
    for kind, body in bodies.items():
        api_object(scope, f"starter-{kind}", {"kind": kind, "metadata": {"name": name, **where}, **body})
    return name


# --- parts ------------------------------------------------------------------------------------------------------------


def _where(job: Mapping[str, Any]) -> dict[str, Any]:
    """Of the runner's Pod what a Pod beside it needs as well, to be let onto its nodes and to pull its image."""
    template = job.get("job")
    runner = template.get("spec") if isinstance(template, Mapping) else None
    if not isinstance(runner, Mapping):  # told at synth
        return {}
    return {field: runner[field] for field in ("imagePullSecrets", "nodeSelector", "tolerations") if runner.get(field)}


def _starter(account: str, config_map: str, image: str, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Spec of the Job that starts a DaskJob."""
    fields = {
        "POD_NAMESPACE": "metadata.namespace",
        "JOB_NAME": "metadata.labels['batch.kubernetes.io/job-name']",
        "JOB_UID": "metadata.labels['batch.kubernetes.io/controller-uid']",
    }
    container = {
        "name": "starter",
        "image": image,
        "args": ["start", f"/etc/dask/{_MANIFEST}"],
        "env": [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()],
        "resources": resources,
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": [
            {"name": "manifest", "mountPath": "/etc/dask", "readOnly": True},
            {"name": SCRATCH, "mountPath": "/tmp"},
        ],
    }
    pod = {
        "serviceAccountName": account,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": RESTRICTED_POD,
        "containers": [container],
        "volumes": [
            {"name": "manifest", "configMap": {"name": config_map}},
            {"name": SCRATCH, "emptyDir": {}},
        ],
    }
    rules = [
        {"action": "FailJob", "onExitCodes": {"containerName": "starter", "operator": "In", "values": _FINAL}},
        # A node that is drained does not touch the DaskJob: another Pod follows it on.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    return {
        "backoffLimit": 6,
        "podFailurePolicy": {"rules": rules},
        "template": {"metadata": {"labels": {Label.COMPONENT: Component.JOB_STARTER}}, "spec": pod},
    }
