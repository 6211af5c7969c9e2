"""What the caches keep of an object: what is read of it, in few bytes, whatever somebody has written into it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.offline import OFFLINE
from tests.support.states import NOW, autoscaler, cluster, group, job, metadata, observed_cluster

from dask_controller.core.actions import Apply, Patch
from dask_controller.core.cached_child import LARGEST_CHILD_BYTES, CachedChild
from dask_controller.core.cached_resource import CachedResource, cached_resource
from dask_controller.core.child import fingerprint
from dask_controller.core.children import changes
from dask_controller.core.compare import contains
from dask_controller.core.ownership import foreign_scheduler, owner_uid
from dask_controller.core.pod import LONGEST_MESSAGE, LONGEST_TERMINATION, Container, Pod, pod
from dask_controller.core.runner import Runner
from dask_controller.shell.caches import Caches
from dask_crds import names
from dask_crds.model import InvalidManifest, dump, parse
from dask_crds.names import Annotation, Label
from dask_crds.validation import LARGEST_SPEC_BYTES
from dask_resources.job import runner_job
from dask_resources.metadata import remembered
from dask_resources.scheduler import (
    disruption_budget,
    extension_config_map,
    scheduler_deployment,
    scheduler_revision,
    scheduler_service,
    selector,
)
from dask_resources.worker import worker_pod

MEGABYTE = "x" * 1_000_000


def stored(manifest: dict[str, Any], **status: Any) -> dict[str, Any]:
    """A manifest as the API server gives it back."""
    server = {
        "uid": "uid",
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "dask-operator", "fieldsV1": {"f:spec": {}}}],
    }
    # Users' labels are many.
    more = {"labels": {f"label{n}": "x" * 60 for n in range(50)} | manifest["metadata"].get("labels", {})}
    stored = {**manifest, "metadata": server | manifest["metadata"] | more, "status": status}
    return json.loads(json.dumps(stored))  # type: ignore[no-any-return]


def kept(manifest: dict[str, Any]) -> Any:
    """What the cache of the kind has after the object was put into it."""
    caches = Caches(OFFLINE, None)
    informer = caches.informers[manifest["kind"]]
    informer.put(manifest)
    (found,) = informer.store.values()
    return found


def size(value: Any) -> int:
    """Bytes that a value takes, with all that it refers to."""
    if isinstance(value, msgspec.Struct):
        return sys.getsizeof(value) + sum(size(getattr(value, field)) for field in value.__struct_fields__)
    if isinstance(value, dict):
        return sys.getsizeof(value) + sum(size(key) + size(item) for key, item in value.items())
    return sys.getsizeof(value)


# --- children ---------------------------------------------------------------------------------------------------------


class TestChild:
    def test_what_planners_read_of_a_deployment(self) -> None:
        c = cluster()
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
        found: CachedChild = kept(
            stored(
                scheduler_deployment(c),
                observedGeneration=1,
                replicas=1,
                updatedReplicas=1,
                conditions=[{"type": "Available", "status": "True"}, failure],
            )
        )
        live = found.manifest
        assert (found.namespace, found.name, found.cluster) == ("team", "simple-scheduler", "simple")
        assert owner_uid(live) == c.uid
        template = scheduler_deployment(c)["metadata"]["annotations"][Annotation.TEMPLATE]
        assert live["metadata"]["annotations"] == {
            Annotation.REVISION: scheduler_revision(c),
            Annotation.TEMPLATE: template,
        }
        assert live["spec"] == {"replicas": 1, "selector": {"matchLabels": selector("simple")}}
        assert live["status"] == {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "conditions": [failure]}
        assert live["metadata"]["labels"] == selector("simple")
        assert len(found.kept) < 1000

    def test_a_service_is_compared_with_what_it_should_be(self) -> None:
        desired = scheduler_service(cluster())
        ingress = [{"ip": f"1.2.3.{n}", "ports": []} for n in range(100)]
        live = kept(stored(desired, loadBalancer={"ingress": ingress})).manifest
        assert contains(live["spec"], desired["spec"])
        assert live["status"] == {"loadBalancer": {"ingress": [{"ip": "1.2.3.0"}]}}

    def test_one_that_is_too_long_is_known_to_be_labelled(self) -> None:
        """Else it would be labelled at every look, and the cluster never come to its timeouts."""
        ranges = [f"10.{n // 250}.{n % 250}.0/24" for n in range(1500)]
        c = cluster()
        c.metadata["labels"] = {"team": "a"}
        scheduler = replace(c.spec.scheduler, service={"loadBalancerSourceRanges": ranges, "type": "LoadBalancer"})
        c = replace(c, spec=replace(c.spec, scheduler=scheduler))
        desired = scheduler_service(c)
        o = observed_cluster(c, service=kept(stored(desired)).manifest, settled=frozenset({fingerprint(desired)}))
        written = [a for a in changes(o, NOW) if isinstance(a, Patch) or (isinstance(a, Apply) and not a.new)]
        assert written == []

    def test_a_disruption_budget_is_compared_with_what_it_should_be(self) -> None:
        desired = disruption_budget(cluster())
        assert contains(kept(stored(desired)).manifest["spec"], desired["spec"])

    def test_nothing_is_kept_of_what_a_config_map_holds(self) -> None:
        """Security finding 3."""
        desired = extension_config_map(cluster())
        found = kept(stored({**desired, "data": {"a": MEGABYTE}}))
        assert found.manifest["metadata"]["annotations"] == desired["metadata"]["annotations"]
        assert len(found.kept) < 1000

    def test_what_planners_read_of_a_job(self) -> None:
        j = job(run_id="x")
        failed = {"type": "Failed", "status": "True", "reason": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        manifest = runner_job(j, scheduler_id="uid/0")
        manifest["spec"]["suspend"] = True
        live = kept(stored(manifest, failed=2, startTime="2026-01-01T00:00:00Z", conditions=[failed])).manifest
        assert Runner(job(), live).is_suspended
        assert Runner(job(), live).is_finished
        assert live["status"]["failed"] == 2
        assert live["status"]["startTime"] == "2026-01-01T00:00:00Z"
        assert live["metadata"]["annotations"] == {Annotation.SCHEDULER_ID: "uid/0"}
        assert live["metadata"]["labels"][Label.RUN_ID] == manifest["metadata"]["labels"][Label.RUN_ID]
        assert "template" not in live["spec"]

    @pytest.mark.parametrize(
        "build", [scheduler_deployment, scheduler_service, disruption_budget, extension_config_map]
    )
    def test_of_a_strangers_it_is_whose_it_is(self, build: Callable[..., dict[str, Any]]) -> None:
        manifest = stored(build(cluster()), conditions=[])
        for owners in ([], [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u", "controller": True}]):
            manifest["metadata"]["ownerReferences"] = owners
            live = kept(manifest).manifest
            assert owner_uid(live) == ("u" if owners else "")
            assert set(live["spec"]) <= {"selector"}
            assert {"labels", "annotations"}.isdisjoint(live["metadata"])

    @pytest.mark.parametrize("owned", [True, False])
    def test_the_existing_operators_deployment_is_known_by_its_selector(self, owned: bool) -> None:
        manifest = stored(scheduler_deployment(cluster()))
        if not owned:
            del manifest["metadata"]["ownerReferences"]
        assert foreign_scheduler("simple", kept(manifest).manifest) is None
        manifest["spec"]["selector"]["matchLabels"] |= {f"label{n}": "x" * 60 for n in range(1000)}
        assert foreign_scheduler("simple", kept(manifest).manifest) is not None


ABSURD: dict[str, Callable[[dict[str, Any]], None]] = {
    "labels": lambda m: m["metadata"]["labels"].update({f"dask.org/{n}": "x" * 60 for n in range(10_000)}),
    "annotations": lambda m: m["metadata"].update(annotations={f"dask.org/{n}": "x" * 9999 for n in range(100)}),
    "what was applied": lambda m: m["metadata"].update(annotations={Annotation.LAST_APPLIED: MEGABYTE}),
    "owners": lambda m: m["metadata"].update(
        ownerReferences=[
            {"apiVersion": names.API_VERSION, "kind": MEGABYTE, "name": MEGABYTE, "uid": MEGABYTE, "controller": True}
        ]
        * 10
    ),
    "spec": lambda m: m["spec"].update(selector={"matchLabels": {f"x{n}": "x" * 60 for n in range(9999)}}),
    "Service": lambda m: m["spec"].update(externalIPs=["1.2.3.4"] * 100_000, type="x"),
    "template": lambda m: m["spec"].update(template={"spec": {"containers": [{"name": MEGABYTE}] * 3}}),
    "conditions": lambda m: m.update(
        status={"conditions": [{"type": "Failed", "status": "True", "message": "x" * 9999}] * 100}
    ),
    "status": lambda m: m.update(
        status={"loadBalancer": {"ingress": [{"ip": "x" * 9999, "hostname": MEGABYTE}] * 100}}
    ),
    "wrong types": lambda m: m.update(status={"conditions": [{"type": "Failed", "status": ["x"] * 99_999}], "x": {}}),
}


@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize(
    "manifest",
    [
        scheduler_deployment(cluster()),
        scheduler_service(cluster()),
        disruption_budget(cluster()),
        extension_config_map(cluster()),
        runner_job(job("simple")),
    ],
    ids=lambda m: str(m["kind"]),
)
def test_what_is_kept_of_a_child_is_bounded(manifest: dict[str, Any], absurd: str) -> None:
    """Security finding 3: anybody may put our label on theirs, and many may write into ours."""
    manifest = stored(manifest)
    manifest.setdefault("spec", {})
    ABSURD[absurd](manifest)
    found: CachedChild = kept(manifest)
    assert len(found.kept) <= LARGEST_CHILD_BYTES
    assert size(found) <= 1.1 * LARGEST_CHILD_BYTES
    assert owner_uid(found.manifest)
    if manifest["kind"] == "Deployment":
        foreign_scheduler("simple", found.manifest)


# --- resources of ours ------------------------------------------------------------------------------------------------


class TestResource:
    @pytest.mark.parametrize("value", [cluster(), group(), autoscaler()], ids=lambda value: value.kind)
    def test_it_is_the_same_without_what_others_note(self, value: Any) -> None:
        manifest = stored(dump(value))
        wanted = json.loads(json.dumps(manifest))
        del wanted["metadata"]["managedFields"]
        applied = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(manifest), "note": "x"}
        manifest["metadata"]["annotations"] = applied
        wanted["metadata"]["annotations"] = {"note": "x"}
        found: CachedResource = kept(manifest)
        assert found.whole
        assert found.manifest == wanted
        assert found.value is not None
        assert found.value.spec == value.spec
        assert found.value.metadata == wanted["metadata"]
        assert found.value.status == value.status

    def test_what_wakes_and_indices_look_at(self) -> None:
        conditions = [{"type": "Ready", "status": "True", "reason": "Suspended", "lastTransitionTime": "x"}]
        found: CachedResource = kept(stored(dump(group()), conditions=conditions))
        assert (found.cluster, found.suspended, found.of_job) == ("simple", True, False)
        found = kept(stored(dump(autoscaler())))
        assert (found.cluster, found.group) == ("simple", "simple-default")
        found = kept(stored(dump(autoscaler(worker_group="gpu"))))
        assert (found.cluster, found.group) == ("simple", "gpu")
        owner = {"apiVersion": names.API_VERSION, "kind": "DaskJob", "name": "simple", "uid": "x", "controller": True}
        owned = stored(dump(cluster()))
        owned["metadata"]["ownerReferences"] = [owner]
        assert kept(owned).of_job

    def test_explicit_nulls_count_as_absent(self) -> None:
        manifest = stored(dump(cluster()), phase=None)
        manifest["spec"]["idleTimeout"] = None
        manifest["spec"]["worker"]["spec"]["containers"][0]["env"] = None
        manifest["spec"]["worker"]["spec"]["volumes"] = [{"name": "x", "emptyDir": None}]
        found: CachedResource = kept(manifest)
        assert found.value is not None
        assert not found.unreadable
        assert "null" not in found.kept.decode()

    @pytest.mark.parametrize("characters", ["x", "<", "é"])
    def test_beyond_a_sane_size_its_metadata_is_kept(self, characters: str) -> None:
        """Security finding 3. The API server writes ``<`` in six bytes: that makes nothing too large."""
        manifest = stored(dump(group()))
        container = manifest["spec"]["worker"]["spec"]["containers"][0]
        space = LARGEST_SPEC_BYTES - len(msgspec.json.encode(manifest["spec"])) - len(b',"command":[""]')
        assert len("é".encode()) == 2
        for excess, unreadable in ((0, False), (2, True)):
            container["command"] = [characters * ((space + excess) // len(characters.encode()))]
            found: CachedResource = kept(manifest)
            assert found.unreadable == unreadable
            sent = msgspec.json.encode(manifest).replace(b"<", b"\\u003c")
            assert as_sent("DaskWorkerGroup", sent).unreadable == unreadable
            assert len(as_sent("DaskWorkerGroup", sent).kept) < LARGEST_SPEC_BYTES + 10_000
        assert len(found.kept) < 1000
        assert found.value is None
        assert not found.whole
        assert (found.name, found.cluster) == ("simple-default", "simple")
        assert found.manifest["metadata"]["ownerReferences"] == manifest["metadata"]["ownerReferences"]

    def test_what_does_not_parse_is_unreadable(self) -> None:
        manifest = stored(dump(autoscaler(worker_group="gpu")))
        manifest["spec"] |= {"minimum": "many", "env": [MEGABYTE]}
        found: CachedResource = kept(manifest)
        assert found.unreadable
        assert (found.cluster, found.group) == ("simple", "gpu")
        assert len(found.kept) < 1000
        manifest["spec"] = {"cluster": 7}
        assert kept(manifest).cluster == ""

    def test_a_status_that_nobody_should_have_written_is_kept_in_part(self) -> None:
        """Security finding 3: what others read of it stays."""
        ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": MEGABYTE, "lastTransitionTime": "x"}
        draining = [{"name": f"x{n}", "since": "2026-01-01T00:00:00Z"} for n in range(10_000)]
        manifest = stored(dump(group()), readyReplicas=3, conditions=[ready], draining=draining)
        manifest["metadata"]["annotations"] = {"mine": MEGABYTE, Annotation.LAST_APPLIED: MEGABYTE}
        found: CachedResource = kept(manifest)
        assert not found.whole
        assert len(found.kept) < 4096
        value: Any = found.value
        assert (value.status.ready_replicas, value.status.draining) == (3, None)
        assert value.status.conditions[0].message == MEGABYTE[:1024]
        assert value.metadata["annotations"] == {Annotation.LAST_APPLIED: remembered(MEGABYTE)}
        assert value.spec == group().spec


def as_sent(kind: str, content: bytes) -> Any:
    """What is kept of an object that comes from the API server."""
    caches = Caches(OFFLINE, None)
    informer = caches.informers[kind]
    informer._set(informer._decoded(msgspec.Raw(content)))
    (found,) = informer.store.values()
    return found


# --- Pods -------------------------------------------------------------------------------------------------------------


def raw_pod(**status: Any) -> dict[str, Any]:
    manifest = worker_pod(group(), 0, "abcde")
    return stored(manifest, **status)


class TestPod:
    def test_what_planners_read_of_it(self) -> None:
        found: Pod = kept(
            raw_pod(
                phase="Running",
                podIP="10.0.0.1",
                startTime="2026-01-01T00:00:10Z",
                conditions=[{"type": "Ready", "status": "True"}],
                containerStatuses=[{"name": "dask", "restartCount": 2, "state": {"running": {}}}],
            )
        )
        assert (found.name, found.namespace, found.phase) == ("simple-default-worker-0", "team", "Running")
        assert (found.ready, found.ip, found.own_ips, found.problem) == (True, "10.0.0.1", ("10.0.0.1",), None)
        assert found.containers == (Container(name="dask", running=True, restarts=2),)
        assert found.started is not None
        assert found.started - found.created == 10
        assert found.owner_uid == group().uid
        assert found.worker_name == "simple-default-worker-0-abcde"
        assert set(found.labels) == {Label.CLUSTER, Label.COMPONENT, Label.WORKER_GROUP, Label.REVISION}

    def test_a_scheduler_has_ports(self) -> None:
        manifest = stored(
            {
                "kind": "Pod",
                "metadata": metadata("x", labels=selector("simple")),
                "spec": {
                    "containers": [
                        {"name": "a", "ports": [{"containerPort": 1, "name": "one"}, {"containerPort": 2}]},
                        {
                            "name": "b",
                            "ports": [{"containerPort": 3, "name": "one"}, {"containerPort": 4, "name": "x"}],
                        },
                    ]
                },
            }
        )
        assert kept(manifest).ports == {"one": 1, "x": 4}
        assert kept(raw_pod()).ports == {}

    def test_texts_are_bounded(self) -> None:
        """Security finding 3: whoever may write a Pod, or its status, writes as much as the API server takes."""
        ended = {"terminated": {"exitCode": 1, "message": MEGABYTE, "reason": MEGABYTE}}
        manifest = raw_pod(
            phase=MEGABYTE,
            podIP=MEGABYTE,
            containerStatuses=[{"name": "dask", "state": {"waiting": {"reason": MEGABYTE, "message": MEGABYTE}}}] * 3
            + [{"name": "dask", "lastState": ended}],
            conditions=[{"type": f"x{n}", "status": "True", "message": "x" * 999} for n in range(1000)],
        )
        manifest["metadata"]["annotations"] = {Annotation.LAST_APPLIED: MEGABYTE, Annotation.WORKER_NAME: MEGABYTE}
        manifest["metadata"]["labels"] |= {f"dask.org/{n}": "x" * 60 for n in range(1000)}
        manifest["metadata"]["ownerReferences"][0]["uid"] = MEGABYTE
        found: Pod = kept(manifest)
        assert size(found) < 8192
        assert found.problem is not None
        assert len(found.problem.message) == LONGEST_MESSAGE
        assert found.last_applied == remembered(MEGABYTE)
        assert found.owner_uid
        del manifest["status"]["containerStatuses"][:3]
        assert len(kept(manifest).container("dask").termination_message) == LONGEST_TERMINATION

    @pytest.mark.parametrize("time", ["", "x", "0000-01-01T00:00:00Z", "9999-99-99T00:00:00Z", None, 7])
    def test_times_that_are_none(self, time: Any) -> None:
        """Security finding 8."""
        ended = {"name": "dask", "state": {"terminated": {"finishedAt": time}}}
        found: Pod = kept(raw_pod(startTime=time, containerStatuses=[ended]))
        assert (found.started, found.finished) == (None, None)

    @pytest.mark.parametrize(
        "status",
        [
            {"conditions": [{}, {"status": "False"}], "containerStatuses": [{}, {"state": {}}]},
            {"conditions": None, "containerStatuses": None, "initContainerStatuses": None},
            {"containerStatuses": [{"state": {"terminated": {}}, "lastState": {"terminated": {}}}]},
            {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            {"phase": 7, "podIP": [], "conditions": "x", "containerStatuses": {"a": 1}, "startTime": {}},
            {"containerStatuses": ["x", 7, None, {"restartCount": "x", "state": "x", "lastState": []}]},
            {"containerStatuses": [{"state": {"terminated": {"exitCode": "x", "reason": [], "message": {}}}}]},
        ],
    )
    def test_a_status_that_lacks_fields_does_not_hide_the_pod(self, status: Any) -> None:
        """Security finding 8: a Pod that the cache leaves out would be made once more."""
        assert kept(raw_pod(**status)).name == "simple-default-worker-0"

    @pytest.mark.parametrize("spec", [None, {}, {"containers": None}, {"containers": []}, {"containers": [{}]}])
    def test_nor_does_a_spec(self, spec: Any) -> None:
        assert kept({**raw_pod(), "spec": spec}).container("dask").restarts == 0

    def test_containers_are_found_by_name_wherever_others_stand(self) -> None:
        """(controller 9) A proxy that was injected first has restarts and last words of its own."""
        ended = {"terminated": {"exitCode": 3, "message": "bye", "finishedAt": "2026-01-01T00:00:10Z"}}
        manifest = raw_pod(
            phase="Running",
            containerStatuses=[
                {"name": "a-proxy", "restartCount": 7, "state": {"running": {}}},
                {"name": "dask", "restartCount": 1, "state": {"waiting": {}}, "lastState": ended},
                {"name": "z", "restartCount": 0, "state": ended},
            ],
        )
        spec = manifest["spec"]
        spec["containers"] = [{"name": "z"}, {"name": "a-proxy"}, *spec["containers"]]
        found: Pod = kept(manifest)
        assert found.container("dask") == Container(name="dask", restarts=1, exit_code=3, termination_message="bye")
        assert found.container("a-proxy") == Container(name="a-proxy", running=True, restarts=7)
        assert found.container("z").finished is not None
        assert found.container("renamed since").name == "z"
        assert kept(manifest).containers is found.containers, "what is the same is kept once"

    @pytest.mark.parametrize(
        ("spec", "status", "own"),
        [
            ({}, {"podIPs": [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}], "podIP": "fd00::1"}, ("fd00::1", "10.0.0.1")),
            ({}, {"podIPs": None, "podIP": "10.0.0.1"}, ("10.0.0.1",)),
            ({}, {}, ()),
            ({"hostNetwork": True}, {"podIPs": [{"ip": "10.1.1.1"}], "podIP": "10.1.1.1"}, ()),
            ({}, {"podIPs": [{"ip": "10.1.1.1"}], "podIP": "10.1.1.1", "hostIPs": [{"ip": "10.1.1.1"}]}, ()),
            ({}, {"podIPs": [{}, 7, {"ip": []}] * 99}, ()),
        ],
    )
    def test_its_own_addresses(self, spec: Any, status: Any, own: tuple[str, ...]) -> None:
        """(controller 3, 17) All of a dual stack; none on the host's network, where Pods share them."""
        manifest = raw_pod(**status)
        manifest["spec"] |= spec
        assert kept(manifest).own_ips == own

    def test_who_crashes_is_told_with_the_way_to_its_logs(self) -> None:
        """(node 11)"""
        crash = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3}}}
        problem = kept(raw_pod(containerStatuses=[{"name": "dask", **crash}])).problem
        assert problem is not None
        assert problem.message.endswith("see `kubectl logs simple-default-worker-0 -c dask --previous`")

    @pytest.mark.parametrize("name", ["simple-default-worker-1-abcde", "", "x" * 10_000, "simple-default-worker-0"])
    def test_another_workers_name_is_not_believed(self, name: str) -> None:
        """(security 8) Who may annotate a Pod would have another worker retired in its place."""
        manifest = raw_pod()
        manifest["metadata"]["annotations"][Annotation.WORKER_NAME] = name
        assert kept(manifest).worker_name == ""

    def test_one_that_needs_memory_is_told_before_a_sidecar(self) -> None:
        """(controller 20) A native sidecar crashes because the worker beside it was killed."""
        crash = {"name": "net", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
        killed = {"name": "dask", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
        problem = kept(raw_pod(initContainerStatuses=[crash], containerStatuses=[crash, killed])).problem
        assert problem is not None
        assert problem.reason == "OOMKilled"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "state", "lastState", "terminated", "waiting", "type", "status", "reason", "message"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
STATUS = st.dictionaries(
    st.sampled_from(["conditions", "containerStatuses", "initContainerStatuses", "phase", "message", "startTime"]),
    JSON,
)


@settings(max_examples=300)
@given(status=STATUS | JSON, containers=JSON, annotations=st.dictionaries(st.just(Annotation.LAST_APPLIED), JSON))
def test_no_pod_is_left_out(status: Any, containers: Any, annotations: Any) -> None:
    """Security finding 8."""
    manifest = raw_pod()
    manifest |= {"status": status, "spec": {"containers": containers}}
    manifest["metadata"]["annotations"] = annotations
    assert pod(manifest).name == "simple-default-worker-0"
    assert kept(manifest).name == "simple-default-worker-0"


def deep(levels: int) -> dict[str, Any]:
    """What anybody may put where a schema says that anything goes."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"f:a": value}
    return value


@pytest.mark.parametrize("levels", [300, 700, 900])
class TestDepth:
    """Between what the decoder takes and what Python's stack takes, a resource was not looked after any more."""

    def test_managed_fields_may_have_any(self, levels: int) -> None:
        manifest = dump(cluster())
        managed = [{"manager": "x", "fieldsV1": deep(levels)}]
        found = parse({**manifest, "metadata": {**manifest["metadata"], "managedFields": managed, "labels": None}})
        assert found.metadata["managedFields"] is managed
        assert "labels" not in found.metadata
        assert found.spec == cluster().spec

    def test_a_spec_may_not_and_then_it_is_there_and_unreadable(self, levels: int) -> None:
        """One that is left out of the cache counts as gone, and its workers go."""
        manifest = dump(cluster())
        claim = {
            "metadata": {"managedFields": [{"fieldsV1": deep(levels)}]},
            "spec": {"accessModes": ["ReadWriteOnce"]},
        }
        volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": claim}}
        manifest["spec"]["scheduler"]["spec"]["volumes"] = [volume]
        with pytest.raises(InvalidManifest, match="levels"):
            parse(manifest)
        assert cached_resource("DaskCluster", manifest).unreadable
