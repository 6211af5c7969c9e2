"""What people ask of Pods, by name: for all of them, for one role, and after construction (constructs finding 28)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.constructs import IMAGE, POD, chart, container, errors, only, synth

from dask_constructs import DaskCluster, DaskJob, Volume
from dask_crds.model import DaskClusterSpec, Scheduler, Worker

import cdk8s  # isort: skip - after dask_constructs, which finds Node.js for it

import cdk8s_plus_34 as plus  # isort: skip

ROLES = {"scheduler": ("cluster", "spec", "scheduler"), "worker": ("cluster", "spec", "worker"), "runner": ("job",)}
COMPONENTS = {"scheduler": "scheduler", "worker": "worker", "runner": "job-runner"}


def job(**options: Any) -> dict[str, Any]:
    c = chart()
    DaskJob(c, "j", name="j", image=IMAGE, command=["true"], **options)
    return only(c)


def template(manifest: dict[str, Any], role: str) -> dict[str, Any]:
    node = manifest["spec"]
    for field in ROLES[role]:
        node = node[field]
    return node  # type: ignore[no-any-return]


def pod(manifest: dict[str, Any], role: str) -> dict[str, Any]:
    return template(manifest, role)["spec"]  # type: ignore[no-any-return]


def mistakes(**options: Any) -> list[str]:
    c = chart()
    DaskJob(c, "j", name="j", image=IMAGE, command=["true"], **options)
    return [line.removeprefix("[test/j] ") for line in errors(c)]


#: An option, its value, and what a Pod's field becomes of it.
FIELDS: list[tuple[str, Any, str, Any]] = [
    ("node_selector", {"pool": "dask"}, "nodeSelector", {"pool": "dask"}),
    (
        "tolerations",
        ["spot=true:NoSchedule", "gpu", "a=b", "c:NoExecute", {"operator": "Exists"}],
        "tolerations",
        [
            {"key": "spot", "value": "true", "effect": "NoSchedule"},
            {"key": "gpu", "operator": "Exists"},
            {"key": "a", "value": "b"},
            {"key": "c", "operator": "Exists", "effect": "NoExecute"},
            {"operator": "Exists"},
        ],
    ),
    ("affinity", {"podAntiAffinity": {}}, "affinity", {"podAntiAffinity": {}}),
    ("priority_class", "high", "priorityClassName", "high"),
    ("runtime_class", "nvidia", "runtimeClassName", "nvidia"),
    ("kubernetes_scheduler", "volcano", "schedulerName", "volcano"),
    ("host_users", False, "hostUsers", False),
    ("termination_grace_period", 90, "terminationGracePeriodSeconds", 90),
    ("service_account", "reader", "serviceAccountName", "reader"),
    ("image_pull_secrets", ["registry"], "imagePullSecrets", [{"name": "registry"}]),
]


@pytest.mark.parametrize(("option", "value", "field", "written"), FIELDS)
def test_an_option_is_a_field_of_all_pods_or_of_one_roles(option: str, value: Any, field: str, written: Any) -> None:
    plain, everywhere = job(), job(**{option: value})
    for role in ROLES:
        assert pod(everywhere, role)[field] == written
        assert field not in pod(plain, role)
        alone = job(**{role: {option: value}})
        assert {other for other in ROLES if field in pod(alone, other)} == {role}


def test_what_one_role_says_is_added_to_mappings_and_replaces_the_rest() -> None:
    manifest = job(
        env={"A": "1", "B": "1"},
        tolerations=["x"],
        node_selector={"pool": "dask"},
        worker={"env": {"B": "2"}, "tolerations": ["y"], "node_selector": {"disk": "nvme"}, "image": "other:1"},
    )
    worker, runner = pod(manifest, "worker"), pod(manifest, "runner")
    env = [{"name": "HOME", "value": "/tmp"}, {"name": "A", "value": "1"}]
    assert worker["containers"][0]["env"] == [*env, {"name": "B", "value": "2"}]
    assert runner["containers"][0]["env"] == [*env, {"name": "B", "value": "1"}]
    assert [t["key"] for t in worker["tolerations"]] == ["y"]
    assert worker["nodeSelector"] == {"pool": "dask", "disk": "nvme"}
    assert worker["containers"][0]["image"] == "other:1"
    assert runner["containers"][0]["image"] == IMAGE


def test_labels_and_annotations_of_one_role() -> None:
    manifest = job(labels={"all": "1"}, scheduler={"labels": {"a": "b"}}, runner={"annotations": {"c": "d"}})
    assert template(manifest, "scheduler")["metadata"] == {"labels": {"a": "b"}}
    assert template(manifest, "runner")["metadata"] == {"annotations": {"c": "d"}}
    assert "metadata" not in template(manifest, "worker")
    assert manifest["metadata"]["labels"] == {"all": "1"}


def test_pods_of_one_kind_are_spread_evenly() -> None:
    own = {"topologyKey": "rack", "maxSkew": 3, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    manifest = job(topology_spread=["topology.kubernetes.io/zone", own])
    for role, component in COMPONENTS.items():
        zone, rack = pod(manifest, role)["topologySpreadConstraints"]
        assert zone == {
            "topologyKey": "topology.kubernetes.io/zone",
            "maxSkew": 1,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"dask.org/component": component}},
            "matchLabelKeys": ["dask.org/cluster-name", "dask.org/workergroup-name"],
        }
        assert rack == own


def test_secrets_and_config_maps_as_environment() -> None:
    c = chart()
    secret, settings = plus.Secret(c, "s", metadata={"name": "s3"}), plus.ConfigMap(c, "m", metadata={"name": "m"})
    DaskCluster(
        c, "c", name="c", image=IMAGE, env_from=[secret, settings, {"prefix": "X_", "secretRef": {"name": "x"}}]
    )
    manifest = synth(c)[-1]
    assert container(manifest, "worker")["envFrom"] == [
        {"secretRef": {"name": "s3"}},
        {"configMapRef": {"name": "m"}},
        {"prefix": "X_", "secretRef": {"name": "x"}},
    ]


def test_code_comes_from_an_image() -> None:
    manifest = job(code="registry/project:1.2", image_pull_policy="Always", runner={"env": {"PYTHONPATH": "/lib"}})
    for role, path in {"scheduler": "/code", "worker": "/code", "runner": "/code:/lib"}.items():
        main = pod(manifest, role)["containers"][0]
        assert main["workingDir"] == "/code"
        assert {"name": "PYTHONPATH", "value": path} in main["env"]
        assert {"name": "code", "mountPath": "/code", "readOnly": True} in main["volumeMounts"]
        volume = {"name": "code", "image": {"reference": "registry/project:1.2", "pullPolicy": "Always"}}
        assert volume in pod(manifest, role)["volumes"]


def test_options_of_the_api() -> None:
    manifest = job(
        suspend=True, deletion_delay=60, max_surge="50%", max_unavailable=1, service_type="LoadBalancer",
        service={"loadBalancerSourceRanges": ["10.0.0.0/8"]},
    )  # fmt: skip
    assert manifest["spec"]["suspend"] is True
    assert manifest["spec"]["cluster"]["deletionDelaySeconds"] == 60
    assert template(manifest, "worker")["updateStrategy"] == {"rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 1}}
    service = template(manifest, "scheduler")["service"]
    assert service == {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]}
    service = {"service_labels": {"a": "b"}, "service_annotations": {"example.com/lb": "internal"}}
    metadata = template(job(**service), "scheduler")["serviceMetadata"]
    assert metadata == {"labels": {"a": "b"}, "annotations": {"example.com/lb": "internal"}}
    assert template(job(worker_update="OnDelete"), "worker")["updateStrategy"] == {"type": "OnDelete"}
    c = chart()
    DaskCluster(c, "c", image=IMAGE, suspend=True)
    assert only(c)["spec"]["suspend"] is True


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({"node_selector": ["a"]}, "node_selector: must be a mapping, not ['a']"),
        ({"tolerations": "spot"}, "tolerations: must be a list, not 'spot'; for one, write ['spot']"),
        ({"tolerations": ["a:NoShedule"]}, "tolerations[0]: 'a:NoShedule' is no taint"),
        ({"tolerations": [{"kez": "a"}]}, "tolerations[0].kez: unknown field, did you mean 'key'?"),
        ({"affinity": {"podAfinity": {}}}, "affinity.podAfinity: unknown field, did you mean 'podAffinity'?"),
        ({"topology_spread": [{"maxSkew": "1"}]}, "topology_spread[0].maxSkew: must be of type integer, not '1'"),
        ({"priority_class": 1}, "priority_class: must be the name of a PriorityClass"),
        ({"host_users": "no"}, "host_users: must be True or False, not 'no'"),
        ({"env_from": ["s3"]}, "env_from[0]: must be a Secret, a ConfigMap, or a mapping as"),
        ({"max_surge": "lots"}, "max_surge: must be a number of workers or a percentage such as '25%', not 'lots'"),
        ({"max_surge": 1, "worker_update": "OnDelete"}, "max_surge: says nothing beside worker_update='OnDelete'"),
        ({"deletion_delay": 1, "delete_cluster": "Never"}, "deletion_delay: says nothing beside"),
        ({"suspend": 1}, "suspend: must be True or False, not 1"),
        ({"service": {"typ": "x"}}, "service.typ: unknown field, did you mean 'type'?"),
        ({"worker": {"env": {"N": 3}}}, "worker['env']['N']: must be text, not 3; write '3'"),
        ({"worker": {"node_selectors": {}}}, "worker['node_selectors']: unknown option; did you mean 'node_selector'?"),
        ({"runner": 3}, "runner: must be a mapping, not 3"),
        ({"code": ""}, "code: must be text that is not empty, not ''"),
    ],
)
def test_a_wrong_value_is_told_with_its_keyword(options: dict[str, Any], mistake: str) -> None:
    (found,) = mistakes(**options)
    assert found.startswith(mistake)


def test_a_misspelt_container_is_told() -> None:
    """(constructs finding 12) It was `containers[1].image: is missing`."""
    change: Any = {"containers": [{"name": "wroker", "env": []}]}
    message = "worker_pod.containers[0].name: there is no container 'wroker'; did you mean 'worker'?"
    assert mistakes(worker_pod=change) == [message]
    sidecar: Any = {"containers": [{"name": "logs", "image": "fluent-bit:3"}]}
    assert len(pod(job(worker_pod=sidecar), "worker")["containers"]) == 2


def test_what_a_change_brings_about_is_told_with_its_keyword() -> None:
    """By what is wrong with it and not without it; patches that came later are not its fault."""
    path = "spec.cluster.spec.worker.spec"
    assert mistakes(worker_pod=lambda pod: {**pod, "nodeSelectors": {}}) == [
        f"worker_pod: {path}.nodeSelectors: unknown field, did you mean 'nodeSelector'?"
    ]
    shrunk: Any = {"containers": [{"name": "worker", "resources": {"limits": {"memory": "1Gi"}}}]}
    (found,) = mistakes(memory="8Gi", worker_pod=shrunk)
    assert found.startswith(f"worker_pod: {path}.containers[0].resources.requests.memory: must not be greater than")
    c = chart()
    cluster = DaskCluster(c, "c", image=IMAGE, worker_pod={"hostNetwork": True})
    cluster.api_object.add_json_patch(cdk8s.JsonPatch.add("/spec/worker/spec/nodeSelectors", {}))
    assert errors(c) == ["[test/c] spec.worker.spec.nodeSelectors: unknown field, did you mean 'nodeSelector'?"]


# --- after construction -----------------------------------------------------------------------------------------------


def test_pods_are_changed_after_construction() -> None:
    c = chart()
    it = DaskJob(c, "j", name="j", image=IMAGE, command=["true"], node_selector={"a": "1"}, tolerations=["x"])
    it.workers.mount("/data", Volume.claim("datasets", read_only=True))
    it.workers.schedule_on(node_selector={"b": "2"}, tolerations=["y"])
    it.workers.add_env("A", "1")
    it.workers.add(labels={"l": "1"}, priority_class="low")
    it.workers.add(labels={"m": "2"})
    it.scheduler.change({"hostNetwork": True})
    it.runner.change(lambda pod: {**pod, "hostname": "runner"})
    manifest = only(c)
    worker = pod(manifest, "worker")
    assert {"name": "data", "mountPath": "/data", "readOnly": True} in worker["containers"][0]["volumeMounts"]
    assert worker["nodeSelector"] == {"a": "1", "b": "2"}
    assert [t["key"] for t in worker["tolerations"]] == ["x", "y"]
    assert {"name": "A", "value": "1"} in worker["containers"][0]["env"]
    assert worker["priorityClassName"] == "low"
    assert template(manifest, "worker")["metadata"] == {"labels": {"l": "1", "m": "2"}}
    assert pod(manifest, "scheduler")["hostNetwork"] is True
    assert pod(manifest, "scheduler")["nodeSelector"] == {"a": "1"}
    assert pod(manifest, "runner")["hostname"] == "runner"


def test_patches_before_and_after_keep_their_order() -> None:
    c = chart()
    cluster = DaskCluster(c, "c", image=IMAGE)
    cluster.api_object.add_json_patch(cdk8s.JsonPatch.add("/spec/worker/spec/hostNetwork", True))
    cluster.workers.add_env("A", "1")
    assert cluster.workers.pod.get("hostNetwork") is True
    cluster.api_object.add_json_patch(cdk8s.JsonPatch.remove("/spec/worker/spec/hostNetwork"))
    assert "hostNetwork" not in only(c)["spec"]["worker"]["spec"]


def test_pods_of_the_exact_form_and_of_groups_are_changed_too() -> None:
    c = chart()
    exact = DaskCluster.from_spec(
        c, "c", name="c", spec=DaskClusterSpec(scheduler=Scheduler(spec=POD), worker=Worker(spec=POD))
    )
    exact.workers.add_env("A", "1")
    group = exact.add_worker_group("g")
    group.workers.mount("/s", Volume.secret("s"))
    cluster, added = synth(c)
    assert container(cluster, "worker")["env"] == [{"name": "A", "value": "1"}]
    assert container(added, "worker")["volumeMounts"][-1] == {"name": "s", "mountPath": "/s", "readOnly": True}


def test_mistakes_after_construction_are_told_at_synth() -> None:
    c = chart()
    cluster = DaskCluster(c, "c", image=IMAGE)
    cluster.workers.mount("data", Volume.claim("x"))
    cluster.scheduler.change({"nodeSelectors": {}})  # type: ignore[typeddict-unknown-key]
    assert [line.partition(": ")[0] for line in errors(c)] == ["[test/c] volumes", "[test/c] pod.nodeSelectors"]


def test_a_job_that_is_named_after_its_spec_is_not_changed_afterwards() -> None:
    it = DaskJob(chart(), "j", image=IMAGE, command=["true"], run_once=True)
    with pytest.raises(ValueError, match="run_once: the name ends in a hash"):
        it.runner.add_env("A", "1")


def test_a_group_has_what_all_pods_of_its_cluster_have() -> None:
    c = chart()
    cluster = DaskCluster(
        c,
        "c",
        name="c",
        image=IMAGE,
        volumes={"/d": Volume.claim("d")},
        tolerations=["x"],
        worker={"tolerations": ["y"]},
    )
    cluster.add_worker_group("g")
    cluster, group = synth(c)
    assert [t["key"] for t in group["spec"]["worker"]["spec"]["tolerations"]] == ["x"]
    assert {"name": "d", "mountPath": "/d"} in container(group, "worker")["volumeMounts"]
