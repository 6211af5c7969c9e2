"""Mistakes that types do not show. What the API server says of the same manifests is in ``tests/schema``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from dask_crds.kubernetes import PodSpec, definitions
from dask_crds.model import (
    MAX_WORKERS,
    AutoscalerBehavior,
    DaskAutoscaler,
    DaskAutoscalerSpec,
    DaskCluster,
    DaskClusterSpec,
    DaskJob,
    DaskJobSpec,
    DaskJobStatus,
    DaskObject,
    DaskWorkerGroup,
    DaskWorkerGroupSpec,
    JobCluster,
    JobTemplate,
    OnExitCodes,
    OnPodCondition,
    PodFailurePolicy,
    PodFailureRule,
    RollingUpdate,
    ScalingPolicy,
    ScalingRules,
    Scheduler,
    TemplateMetadata,
    UpdateStrategy,
    Worker,
    dump,
    parse,
)
from dask_crds.quantity import parse_quantity
from dask_crds.schema import structural
from dask_crds.validation import LARGEST_SPEC_BYTES, problems, too_large
from dask_crds.validation.fields import FIELDS, NEEDED
from dask_crds.validation.objects import CHECKS

POD: PodSpec = {"containers": [{"name": "main", "image": "dask"}]}


def cluster(name: str = "a", scheduler: Any = POD, worker: Any = POD, **fields: Any) -> DaskCluster:
    spec = DaskClusterSpec(scheduler=Scheduler(spec=scheduler), worker=Worker(spec=worker, **fields))
    return DaskCluster(metadata={"name": name}, spec=spec)


def group(name: str = "a", cluster: str = "a", **fields: Any) -> DaskWorkerGroup:
    worker = Worker(spec=POD, **fields)
    return DaskWorkerGroup(metadata={"name": name}, spec=DaskWorkerGroupSpec(cluster=cluster, worker=worker))


def job(name: str = "a", runner: Any = POD, **fields: Any) -> DaskJob:
    spec = DaskJobSpec(cluster=JobCluster(spec=cluster().spec), job=JobTemplate(spec=runner), **fields)
    return DaskJob(metadata={"name": name}, spec=spec)


def autoscaler(minimum: int = 0, maximum: int | None = None, **fields: Any) -> DaskAutoscaler:
    spec = DaskAutoscalerSpec(cluster="a", minimum=minimum, maximum=maximum, **fields)
    return DaskAutoscaler(metadata={"name": "a"}, spec=spec)


def said(value: DaskObject) -> list[tuple[str, str]]:
    return [(problem.path, problem.message) for problem in problems(value)]


def paths(value: DaskObject) -> list[str]:
    return [problem.path for problem in problems(value)]


def container(**fields: Any) -> dict[str, Any]:
    """A Pod with one container that has these fields."""
    return {"containers": [{"name": "main", "image": "dask", **fields}]}


@pytest.mark.parametrize("value", [cluster(), group(), job(), autoscaler(1, 1)])
def test_nothing_wrong(value: DaskObject) -> None:
    assert problems(value) == []


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "a1", "a-1", "a" * 53])
def test_names_of_clusters(name: str) -> None:
    for value in (cluster(name), job(name), group(cluster=name)):
        assert not problems(value)


@pytest.mark.parametrize("name", ["", "1a", "-a", "a-", "A", "a.b", "a_b", "a" * 54])
def test_no_names_of_clusters(name: str) -> None:
    for value in (cluster(name), job(name)):
        assert paths(value) == ["metadata.name"]
    assert paths(group(cluster=name)) == ["spec.cluster"]


@pytest.mark.parametrize("name", ["a", "1a", "a.b", "a" * 63])
def test_names_of_groups(name: str) -> None:
    assert not problems(group(name))


@pytest.mark.parametrize("name", ["", "a" * 64, "A", "a_b", "a-"])
def test_no_names_of_groups(name: str) -> None:
    assert paths(group(name)) == ["metadata.name"]


@pytest.mark.parametrize(("value", "valid"), [("a", True), ("", True), ("A_b.c-1", True), ("a b", False), ("é", False)])
def test_labels(value: str, valid: bool) -> None:
    labelled = cluster(metadata=TemplateMetadata(labels={"team": value}))
    assert paths(labelled) == ([] if valid else ["spec.worker.metadata.labels.team"])


@pytest.mark.parametrize(
    ("key", "label", "annotation"),
    [
        ("team", True, True),
        ("corp.example/Team_1.a-b", True, True),
        ("Corp.Example/team", False, True),
        ("a" * 64, False, False),
        ("a b", False, False),
        ("-a", False, False),
        ("/a", False, False),
        ("a/b/c", False, False),
        ("", False, False),
    ],
)
def test_keys(key: str, label: bool, annotation: bool) -> None:
    """As the API server has them: only there the domain of an annotation may have capitals."""
    assert bool(problems(cluster(metadata=TemplateMetadata(labels={key: "a"})))) != label
    assert bool(problems(cluster(metadata=TemplateMetadata(annotations={key: "a b"})))) != annotation
    own = {"metadata": {"name": "a", "labels": {key: "a"}}}
    assert bool(problems(msgspec.structs.replace(cluster(), **own))) != label


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"labels": {"team": "a b"}}, "metadata.labels.team"),
        ({"labels": {"build": 5}}, "metadata.labels.build"),
        ({"annotations": {"build": True}}, "metadata.annotations.build"),
        ({"labels": ["team"]}, "metadata.labels"),
        ({"labels": None, "annotations": {"note": "a b"}}, ""),
    ],
)
def test_the_resources_own_metadata(metadata: Any, path: str) -> None:
    """The API server looks at it first; YAML makes numbers of what is not in quotes."""
    assert paths(msgspec.structs.replace(cluster(), metadata={"name": "a", **metadata})) == ([path] if path else [])


@pytest.mark.parametrize(
    ("prefix", "cluster_fits", "group_fits"),
    [
        ("report-", True, True),
        ("a" * 48, True, True),
        ("a" * 49, False, True),
        ("a" * 253, False, True),
        ("a" * 254, False, False),
        ("1-", False, True),
        ("Report-", False, False),
    ],
)
def test_names_that_the_api_server_generates(prefix: str, cluster_fits: bool, group_fits: bool) -> None:
    """Refused offline, accepted by the API server: it appends five characters (public 04)."""
    others = [(value, group_fits) for value in (group(), autoscaler())]
    for value, fits in [(cluster(), cluster_fits), (job(), cluster_fits), *others]:
        found = paths(msgspec.structs.replace(value, metadata={"generateName": prefix}))
        assert set(found) == (set() if fits else {"metadata.generateName"})
    assert problems(msgspec.structs.replace(cluster(), metadata={"name": "a", "generateName": "1"})) == []
    assert paths(msgspec.structs.replace(cluster(), metadata={"generateName": ""})) == ["metadata.name"]


# --- Pods -------------------------------------------------------------------------------------------------------------


def test_containers() -> None:
    assert said(cluster(worker={"containers": []})) == [
        ("spec.worker.spec.containers", "must have at least one container")
    ]
    assert said(cluster(scheduler={"containers": [{"name": "main"}]})) == [
        ("spec.scheduler.spec.containers[0].image", "is missing")
    ]
    assert paths(cluster(worker=container(name="Main_1"))) == ["spec.worker.spec.containers[0].name"]
    assert paths(cluster(worker={**POD, "initContainers": [{"name": "x"}]})) == [
        "spec.worker.spec.initContainers[0].image"
    ]


@pytest.mark.parametrize(
    ("pod", "path", "message"),
    [
        (
            {"containers": [*POD["containers"], *POD["containers"]]},
            "spec.worker.spec.containers[1]",
            "name 'main' is used twice",
        ),
        (
            container(env=[{"name": "A", "value": "1"}, {"name": "B"}, {"name": "A"}]),
            "spec.worker.spec.containers[0].env[2]",
            "name 'A' is used twice",
        ),
        (
            container(ports=[{"containerPort": 1}, {"containerPort": 1, "protocol": "TCP", "name": "b"}]),
            "spec.worker.spec.containers[0].ports[1]",
            "containerPort 1, protocol 'TCP' is used twice",
        ),
        (
            {**POD, "volumes": [{"name": "v"}, {"name": "v"}]},
            "spec.worker.spec.volumes[1]",
            "name 'v' is used twice",
        ),
    ],
)
def test_keys_of_lists_are_unique(pod: Any, path: str, message: str) -> None:
    assert said(cluster(worker=pod)) == [(path, message)]


def test_lists_without_keys_may_repeat() -> None:
    assert not problems(
        cluster(worker=container(args=["-v", "-v"], ports=[{"containerPort": 1}, {"containerPort": 2}]))
    )


def test_mounts_need_their_volume() -> None:
    mounts = [{"name": "data", "mountPath": "/data"}]
    assert said(cluster(worker=container(volumeMounts=mounts))) == [
        ("spec.worker.spec.containers[0].volumeMounts[0].name", "there is no volume 'data'")
    ]
    assert not problems(cluster(worker={**container(volumeMounts=mounts), "volumes": [{"name": "data"}]}))
    devices = [{"name": "disk", "devicePath": "/dev/xvda"}]
    assert said(cluster(worker=container(volumeDevices=devices))) == [
        ("spec.worker.spec.containers[0].volumeDevices[0].name", "there is no volume 'disk'")
    ]


def test_what_a_pod_itself_asks_for() -> None:
    amounts: Any = {"requests": {"cpu": 2}, "limits": {"cpu": 1}}
    assert paths(cluster(worker={**POD, "resources": amounts})) == ["spec.worker.spec.resources.requests.cpu"]
    for selector, valid in (({"kubernetes.io/arch": "arm64"}, True), ({"a b": "c"}, False), ({"a": "b c"}, False)):
        found = paths(cluster(worker={**POD, "nodeSelector": selector}))
        assert found == ([] if valid else ["spec.worker.spec.nodeSelector"])


@pytest.mark.parametrize(
    ("resources", "path", "message"),
    [
        ({"requests": {"memory": "4GB"}}, "requests.memory", "'4GB' is not a Kubernetes quantity such as"),
        (
            {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}},
            "requests.cpu",
            "must not be greater than the limit (2 > 1500m)",
        ),
        ({"requests": {"memory": "200MBytes"}}, "requests.memory", "'200MBytes' is not a Kubernetes quantity such as"),
        ({"limits": {"cpu": "-1"}}, "limits.cpu", "-1 is less than the minimum of 0"),
        (
            {"limits": {"cpu": 0.5}},
            "limits.cpu",
            "must be a whole number or text, not 0.5: put it in quotes, '0.5'",  # public: `cpu: 0.5` unquoted
        ),
    ],
)
def test_amounts(resources: Any, path: str, message: str) -> None:
    ((found, explanation),) = said(cluster(worker=container(resources=resources)))
    assert found == f"spec.worker.spec.containers[0].resources.{path}"
    assert message in explanation


@pytest.mark.parametrize("quantity", ["1e999999999", "9" * 5000, "16Ei"], ids=["exponent", "digits", "suffix"])
def test_absurd_amounts_are_capped_as_kubernetes_does(quantity: str) -> None:
    assert parse_quantity(quantity) == 2**63 - 1
    assert parse_quantity(f"-{quantity}") == -(2**63 - 1)
    assert not problems(cluster(worker=container(resources={"limits": {"cpu": quantity}})))


@pytest.mark.parametrize(
    "quantity",
    ["1" * 200_000 + "x", "." * 200_000, "1e" + "9" * 5000, "1e-99999999999999999999"],
    ids=["digits and a letter", "points", "exponent", "negative exponent"],
)
def test_absurd_texts_are_no_amounts_and_that_is_soon_told(quantity: str) -> None:
    """The time grew with the square of the length: 20,000 digits and a letter took more than a minute."""
    with pytest.raises(ValueError, match="is not a Kubernetes quantity") as caught:
        parse_quantity(quantity)
    assert len(str(caught.value)) < 150
    assert paths(cluster(worker=container(resources={"limits": {"cpu": quantity}})))


def test_requests_up_to_the_limit() -> None:
    resources = {"requests": {"cpu": "1000m", "memory": "1Gi"}, "limits": {"cpu": 1, "nvidia.com/gpu": 1}}
    assert not problems(cluster(worker=container(resources=resources)))


@pytest.mark.parametrize("policy", ["Never", "OnFailure"])
def test_restart_policies(policy: str) -> None:
    """The scheduler runs in a Deployment, the runner in a Job."""
    assert paths(cluster(scheduler={**POD, "restartPolicy": policy})) == ["spec.scheduler.spec.restartPolicy"]
    assert not problems(cluster(worker={**POD, "restartPolicy": policy}))
    assert not problems(job(runner={**POD, "restartPolicy": policy}))
    assert paths(job(runner={**POD, "restartPolicy": "Always"})) == ["spec.job.spec.restartPolicy"]
    assert paths(cluster(scheduler={**POD, "activeDeadlineSeconds": 5})) == [
        "spec.scheduler.spec.activeDeadlineSeconds"
    ]


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_bounds_of_an_autoscaler() -> None:
    assert said(autoscaler(3, 2)) == [("spec.minimum", "must not be greater than spec.maximum (3 > 2)")]
    assert not problems(autoscaler(3))
    assert not problems(autoscaler(maximum=0))


def many_pods(value: int) -> AutoscalerBehavior:
    policies = [ScalingPolicy(type="Pods", value=1, period_seconds=9)]
    policies.append(ScalingPolicy(type="Percent", value=value, period_seconds=9))
    return AutoscalerBehavior(scale_down=ScalingRules(policies=policies))


NUMBERS_OF_WORKERS = [
    (lambda n: cluster(replicas=n), "spec.worker.replicas"),
    (lambda n: group(replicas=n), "spec.worker.replicas"),
    (lambda n: job(minimum_ready_workers=n), "spec.minimumReadyWorkers"),
    (lambda n: autoscaler(n), "spec.minimum"),
    (lambda n: autoscaler(maximum=n), "spec.maximum"),
    (lambda n: autoscaler(behavior=many_pods(n)), "spec.behavior.scaleDown.policies[1].value"),
    (
        lambda n: group(update_strategy=UpdateStrategy(rolling_update=RollingUpdate(max_surge=n))),
        "spec.worker.updateStrategy.rollingUpdate.maxSurge",
    ),
    (
        lambda n: group(update_strategy=UpdateStrategy(rolling_update=RollingUpdate(max_unavailable=n))),
        "spec.worker.updateStrategy.rollingUpdate.maxUnavailable",
    ),
]


@pytest.mark.parametrize(("make", "path"), NUMBERS_OF_WORKERS)
def test_numbers_of_workers_are_bounded(make: Any, path: str) -> None:
    """Controller finding 12, security finding 1. Kubernetes is tested with 150,000 Pods."""
    for accepted in (100_000, MAX_WORKERS):
        assert not problems(make(accepted))
    for absurd in (MAX_WORKERS + 1, 6_000_000, 2**31 - 1):
        assert said(make(absurd)) == [(path, f"{absurd} is greater than the maximum of {MAX_WORKERS}")]


@pytest.mark.parametrize(("make", "path"), NUMBERS_OF_WORKERS)
def test_objects_from_before_the_bounds_are_still_understood(make: Any, path: str) -> None:
    """The API server keeps them, so the operator has to look after them."""
    for absurd in (2**31 - 1, 2**40):
        value = make(absurd)
        assert parse(dump(value)) == value


def test_what_the_runners_job_cannot_hold_is_told() -> None:
    def policy(values: Sequence[int] = (1,), container_name: str | None = None) -> PodFailurePolicy:
        codes = OnExitCodes(operator="In", values=list(values), container_name=container_name)
        return PodFailurePolicy(rules=[PodFailureRule(action="Ignore", on_exit_codes=codes)])

    rule = "spec.podFailurePolicy.rules[0]"
    assert not problems(job(pod_failure_policy=policy([-(2**31), 2**31 - 1], "main")))
    assert paths(job(pod_failure_policy=policy([1, 2**31]))) == [f"{rule}.onExitCodes.values[1]"]
    assert paths(job(pod_failure_policy=policy([-(2**31) - 1]))) == [f"{rule}.onExitCodes.values[0]"]
    assert paths(job(pod_failure_policy=policy(container_name="a" * 64))) == [f"{rule}.onExitCodes.containerName"]
    condition = PodFailureRule(action="Ignore", on_pod_conditions=[OnPodCondition(type="a" * 318)])
    found = paths(job(pod_failure_policy=PodFailurePolicy(rules=[condition])))
    assert found == [f"{rule}.onPodConditions[0].type"]


@pytest.mark.parametrize("seconds", [0, 2**31 - 1])
def test_great_times_are_no_mistake(seconds: int) -> None:
    """People write them for "never" and "for ever", and they do no harm."""
    assert not problems(cluster(drain_timeout_seconds=seconds))
    assert not problems(job(ttl_seconds_after_finished=seconds, backoff_limit=seconds))


@pytest.mark.parametrize(
    ("amount", "valid"),
    [
        *((0, True), (3, True), ("25%", True), ("999%", True)),
        *(
            (-1, False),
            ("25", False),
            ("1000%", False),
            ("999999999999%", False),
            pytest.param("9" * 5000 + "%", False, id="digits"),
        ),
        *(("25%\n", False), ("-1%", False), ("", False)),
    ],
)
def test_percentages(amount: Any, valid: bool) -> None:
    strategy = UpdateStrategy(rolling_update=RollingUpdate(max_surge=amount))
    found = paths(cluster(update_strategy=strategy))
    assert found == ([] if valid else ["spec.worker.updateStrategy.rollingUpdate.maxSurge"])


@pytest.mark.parametrize(
    ("surge", "unavailable", "valid"),
    [
        (0, 0, False),
        ("0%", 0, False),
        (0, "000%", False),
        (0, 1, True),
        (1, 0, True),
        ("0%", "10%", True),
        (0, None, True),
    ],
)
def test_an_update_that_could_never_begin(surge: Any, unavailable: Any, valid: bool) -> None:
    """It acted as if one was allowed, without a word (node 11); Deployments refuse it as well."""
    rolling = RollingUpdate(max_surge=surge, max_unavailable=unavailable)
    value = cluster(update_strategy=UpdateStrategy(rolling_update=rolling))
    assert parse(dump(value)) == value, "zero is not forgotten when it is written down"
    assert paths(value) == ([] if valid else ["spec.worker.updateStrategy.rollingUpdate"])


# --- status before anybody has looked ---------------------------------------------------------------------------------


class TestFirstStatus:
    """Clients read `phase` and `jobStatus` as soon as there is a status at all (public 11)."""

    @pytest.mark.parametrize(
        ("kind", "field", "word"), [("DaskCluster", "phase", "Created"), ("DaskJob", "jobStatus", "JobCreated")]
    )
    def test_what_the_api_server_fills_in(self, kind: str, field: str, word: str) -> None:
        first = structural(kind)["properties"]["status"]["default"]
        assert first == {"observedGeneration": -1, field: word}
        assert word in structural(kind)["properties"]["status"]["properties"][field]["enum"]

    @pytest.mark.parametrize("value", [cluster(), group(), job(), autoscaler()], ids=lambda value: value.kind)
    def test_it_speaks_of_nothing_yet(self, value: DaskObject) -> None:
        first = structural(value.kind)["properties"]["status"]["default"]
        assert parse({**dump(value), "status": first}) == value

    def test_a_job_of_which_only_is_said_what_is_wrong_with_it_has_not_begun(self) -> None:
        status = {"observedGeneration": 1, "jobStatus": "JobCreated", "conditions": []}
        found = parse({**dump(job()), "status": status}).status
        assert found == DaskJobStatus(observed_generation=1, conditions=[])

    def test_what_an_operator_has_begun_that_takes_it_for_its_own_is_not_run_twice(self) -> None:
        """CRDs are upgraded first, so the operator before may see it: and notes neither revision nor ``runId``."""
        status = {"observedGeneration": 1, "jobStatus": "Running"}
        found = parse({**dump(job(run_id="7")), "status": status}).status
        assert found == DaskJobStatus(observed_generation=1, job_status="Running", run_id="7")

    def test_what_is_noted_stands(self) -> None:
        status = {"observedGeneration": 2, "jobStatus": "JobCreated", "revision": "x", "runId": "6"}
        found = parse({**dump(job(run_id="7")), "status": status}).status
        assert found == DaskJobStatus(observed_generation=2, job_status="JobCreated", revision="x", run_id="6")


# --- size -------------------------------------------------------------------------------------------------------------


def with_script(characters: int) -> Any:
    """A Pod that is larger by so many characters."""
    return container(args=["x" * characters])


@pytest.mark.parametrize(
    "make",
    [
        lambda characters: cluster(scheduler=with_script(characters)),
        lambda characters: job(runner=with_script(characters)),
        lambda characters: cluster(metadata=TemplateMetadata(annotations={"note": "x" * characters})),
    ],
)
def test_a_large_spec_is_refused(make: Any) -> None:
    """Each byte of a spec costs the operator many."""
    room = LARGEST_SPEC_BYTES - len(msgspec.json.encode(make(0).spec))
    largest, larger = make(room), make(room + 1)
    assert not problems(largest)
    assert too_large(largest.spec) is None
    ((path, message),) = said(larger)
    assert path == "spec"
    assert message.startswith("has 262,145 bytes as JSON, at most 262,144 are possible: put scripts and data into")
    assert too_large(larger.spec) == f"spec {message}"
    assert too_large(dump(larger.spec)) == f"spec {message}", "of the plain data as of the value"


def test_a_job_is_measured_as_a_whole() -> None:
    third: Any = with_script(LARGEST_SPEC_BYTES // 3)
    spec = DaskJobSpec(
        cluster=JobCluster(spec=cluster(scheduler=third, worker=third).spec), job=JobTemplate(spec=third)
    )
    assert paths(DaskJob(metadata={"name": "a"}, spec=spec)) == ["spec"]


# --- all of a job -----------------------------------------------------------------------------------------------------


def test_mistakes_in_a_job_are_found_in_all_its_pods() -> None:
    bad: Any = {"containers": [{"name": "main"}]}
    spec = DaskJobSpec(cluster=JobCluster(spec=cluster(scheduler=bad, worker=bad).spec), job=JobTemplate(spec=bad))
    assert paths(DaskJob(metadata={"name": "a"}, spec=spec)) == [
        "spec.cluster.spec.scheduler.spec.containers[0].image",
        "spec.cluster.spec.worker.spec.containers[0].image",
        "spec.job.spec.containers[0].image",
    ]


# --- what a Kubernetes of another release would change ----------------------------------------------------------------


def test_rules_are_of_fields_that_there_are() -> None:
    """The tables name definitions and fields of the vendored release; a new one may rename them."""
    for name, rules in FIELDS.items():
        assert rules.keys() <= definitions()[name]["properties"].keys(), name
    for name, fields in NEEDED.items():
        assert set(fields) <= definitions()[name]["properties"].keys(), name
    assert CHECKS.keys() <= definitions().keys()
