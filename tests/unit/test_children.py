"""What others do to the children of a cluster: what they add stays, what they change of ours is set right once.

The numbers are those of the review of 637166b.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from tests.support.questions import answers_of
from tests.support.states import NOW, cluster, condition, observed_cluster, scheduler_pod
from tests.unit.test_cluster import applied, complete, live, live_group

from dask_controller.core.actions import Apply, Delete, Outcome, Patch
from dask_controller.core.child import fingerprint
from dask_controller.core.children import stands, stands_as_stored
from dask_controller.core.cluster import plan_cluster
from dask_controller.core.cluster_status import cluster_status
from dask_controller.core.compare import contains
from dask_controller.core.observed import ObservedCluster
from dask_crds.model import DaskCluster, DaskClusterStatus, SchedulerUpdateStrategy, UpdateStrategy, dump, parse
from dask_crds.names import Annotation, Label, Port
from dask_resources.scheduler import (
    disruption_budget,
    extension_config_map,
    scheduler_deployment,
    scheduler_service,
)


def changed(manifest: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A live child some of whose spec is other than we have stated."""
    manifest = live(copy.deepcopy(manifest))
    manifest["spec"] |= spec
    return manifest


#: What the API server fills in where nothing is stated, and what somebody makes of it where it is.
DEFAULTS = [
    ("dnsPolicy", "ClusterFirst", "Default"),
    ("schedulerName", "default-scheduler", "theirs"),
    ("containers.0.imagePullPolicy", "IfNotPresent", "Always"),
    ("containers.0.terminationMessagePath", "/dev/termination-log", "/tmp/log"),
    ("containers.0.ports", [{"containerPort": 1, "protocol": "TCP"}], [{"containerPort": 1, "protocol": "UDP"}]),
    ("containers.0.readinessProbe", {"exec": {"command": ["true"]}, "periodSeconds": 10}, {"periodSeconds": 60}),
    ("volumes", [{"name": "x", "secret": {"defaultMode": 420}}], [{"name": "x", "secret": {"defaultMode": 511}}]),
]


def placed(value: Any, path: str, what: Any) -> Any:
    """The value, with something else at ``path``."""
    *steps, last = path.split(".")
    target = value
    for step in steps:
        target = target[int(step) if step.isdigit() else step]
    target[last] = what
    return value


def actions(o: ObservedCluster) -> list[Any]:
    return list(plan_cluster(o, NOW).actions)


class TestConfigMap:
    """(security 7, strangers 9) The module is code that runs in the scheduler."""

    def test_changed_data_is_set_right(self) -> None:
        c = cluster()
        tampered = live(extension_config_map(c))
        tampered["data"] = dict.fromkeys(tampered["data"], "import os")
        o = complete(c, config_map=tampered)
        assert not stands(o, "ConfigMap")
        assert applied(plan_cluster(o, NOW)) == ["ConfigMap"]

    def test_an_added_file_is_taken_away(self) -> None:
        """It lies where Python looks, and to apply ours would leave it there: it is another manager's."""
        c = cluster()
        tampered = live(extension_config_map(c))
        tampered["data"] = {**tampered["data"], "distributed.py": "import os"}
        (patch,) = actions(complete(c, config_map=tampered))
        assert (patch.kind, patch.patch) == ("ConfigMap", {"data": {"distributed.py": None}})

    def test_so_is_one_that_is_no_text(self) -> None:
        """Kubernetes mounts ``binaryData`` beside ``data``."""
        c = cluster()
        tampered = live(extension_config_map(c)) | {"binaryData": {"distributed.py": "aW1wb3J0IG9z"}}
        o = complete(c, config_map=tampered)
        assert not stands(o, "ConfigMap")
        (patch,) = actions(o)
        assert (patch.kind, patch.patch) == ("ConfigMap", {"data": {}, "binaryData": None})

    def test_files_of_another_release_give_way_at_once(self) -> None:
        """A scheduler that starts in between must not find some of one release and some of another."""
        c = cluster()
        other = live(extension_config_map(c))
        name, *rest = other["data"]
        other["data"] = {"gone.py": "", name: "before", **{same: other["data"][same] for same in rest[1:]}}
        (patch,) = actions(complete(c, config_map=other))
        ours = extension_config_map(c)["data"]
        assert patch.patch == {"data": {"gone.py": None, name: ours[name], rest[0]: ours[rest[0]]}}

    def test_where_only_metadata_is_known_nothing_is_changed(self) -> None:
        c = cluster()
        seen = live(extension_config_map(c))
        del seen["data"]
        assert actions(complete(c, config_map=seen)) == []


class TestService:
    def test_a_renumbered_port_is_replaced_as_a_whole(self) -> None:
        """(strangers 1) Merged by number it would stay, and the API server refuses a name twice, for ever."""
        c = cluster()
        ports = copy.deepcopy(scheduler_service(c)["spec"]["ports"])
        ports[0] |= {"port": 9786, "nodePort": 30001}
        theirs = {"name": "metrics", "port": 9999, "protocol": "TCP"}
        (patch,) = actions(complete(c, service=changed(scheduler_service(c), ports=[*ports, theirs])))
        assert isinstance(patch, Patch)
        written = patch.patch["spec"]["ports"]
        assert [(port["name"], port["port"]) for port in written] == [
            (Port.COMM.name, 8786),
            (Port.DASHBOARD.name, 8787),
            (Port.CONTROL.name, 8788),
            ("metrics", 9999),
        ]
        assert written[0]["nodePort"] == 30001, "who has opened a firewall for it finds it again"

    def test_swapped_and_renamed_ports_are_set_right_too(self) -> None:
        c = cluster()
        for change in ({0: {"port": 8787}, 1: {"port": 8786}}, {0: {"name": "other"}}, {1: {"name": "x"}}):
            ports = copy.deepcopy(scheduler_service(c)["spec"]["ports"])
            for at, fields in change.items():
                ports[at] |= fields
            (patch,) = actions(complete(c, service=changed(scheduler_service(c), ports=ports)))
            assert isinstance(patch, Patch)
            assert contains(patch.patch["spec"]["ports"], scheduler_service(c)["spec"]["ports"])
            assert len({port["name"] for port in patch.patch["spec"]["ports"]}) == len(patch.patch["spec"]["ports"])

    def test_a_label_that_is_added_to_the_selector_is_taken_away(self) -> None:
        """Nobody reached the scheduler any more, and the cluster was Ready."""
        c = cluster()
        theirs = {**scheduler_service(c)["spec"]["selector"], "version": "v2"}
        assert applied(plan_cluster(complete(c, service=changed(scheduler_service(c), selector=theirs)), NOW)) == [
            "Service"
        ]

    def test_a_port_of_somebody_elses_stays(self) -> None:
        """(controller 8) It was applied against at every look, and ``idleTimeout`` was dead."""
        c = cluster(idle_timeout=60)
        ports = [{"name": "metrics", "port": 9999, "protocol": "TCP"}, *scheduler_service(c)["spec"]["ports"]]
        o = complete(c, service=changed(scheduler_service(c), ports=ports), answers=answers_of(idle_seconds=61))
        assert isinstance(actions(o)[-1], Delete)

    @pytest.mark.parametrize(
        "empty", [{"externalIPs": []}, {"loadBalancerSourceRanges": None}, {"sessionAffinityConfig": {}}]
    )
    def test_empty_values_are_no_difference(self, empty: Any) -> None:
        """(controller 8) The API server drops them, so they would never be there."""
        c = with_service(cluster(), empty)
        service = live(scheduler_service(c))
        service["spec"] = {key: value for key, value in service["spec"].items() if key not in empty}
        assert actions(complete(c, service=service)) == []

    def test_what_was_applied_without_effect_is_not_applied_again(self) -> None:
        """(controller 8) ``nodePort: 0`` and whatever else the API server or a webhook writes in its own way."""
        c = with_service(cluster(idle_timeout=60), {"healthCheckNodePort": 0})
        service = live(scheduler_service(c))
        del service["spec"]["healthCheckNodePort"]
        o = complete(c, service=service, answers=answers_of(idle_seconds=61))
        assert applied(plan_cluster(o, NOW)) == ["Service"]
        settled = frozenset({fingerprint(scheduler_service(c))})
        assert isinstance(actions(msgspec.structs.replace(o, settled=settled))[-1], Delete)

    def test_labels_by_which_clients_find_it_come_back(self) -> None:
        c = cluster()
        for label in (Label.CLUSTER, Label.COMPONENT):
            service = live(scheduler_service(c))
            service["metadata"]["labels"] = {**service["metadata"]["labels"], label: "theirs"}
            assert applied(plan_cluster(complete(c, service=service), NOW)) == ["Service"]

    def test_one_that_selects_nothing_is_never_ready(self) -> None:
        """(public 03) A selector copied from another cluster's manifest."""
        c = with_service(cluster(), {"selector": {Label.CLUSTER: "another", Label.COMPONENT: "scheduler"}})
        status = cluster_status(complete(c), plan_cluster(complete(c), NOW), [], NOW)
        ready = condition(status.conditions, "Ready")
        assert (ready.status, ready.reason) == ("False", "ServiceSelectsNothing")
        assert condition(status.conditions, "Stalled").status == "True"
        assert "spec.scheduler.service.selector" in ready.message


def with_service(c: DaskCluster, service: Any) -> DaskCluster:
    scheduler = msgspec.structs.replace(c.spec.scheduler, service=service)
    return msgspec.structs.replace(c, spec=msgspec.structs.replace(c.spec, scheduler=scheduler))


class TestDeployment:
    """(strangers 9, controller 20) Edits stayed, and the cluster was Ready."""

    @pytest.mark.parametrize(
        "path",
        [
            ("image",),
            ("args",),
            ("env", 0, "value"),
            ("volumeMounts", 0, "mountPath"),
        ],
    )
    def test_what_is_stated_comes_back(self, path: tuple[Any, ...]) -> None:
        c = cluster()
        deployment = live(copy.deepcopy(scheduler_deployment(c)))
        target = deployment["spec"]["template"]["spec"]["containers"][0]
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = ["theirs"] if path[-1] == "args" else "theirs"
        assert applied(plan_cluster(complete(c, deployment=deployment), NOW)) == ["Deployment"]

    @pytest.mark.parametrize(("path", "default", "theirs"), DEFAULTS)
    def test_a_default_that_is_stated_comes_back(self, path: str, default: Any, theirs: Any) -> None:
        c = cluster()
        placed(c.spec.scheduler.spec, path, default)
        deployment = live(copy.deepcopy(scheduler_deployment(c)))
        assert actions(complete(c, deployment=copy.deepcopy(deployment))) == []
        placed(deployment["spec"]["template"]["spec"], path, theirs)
        assert applied(plan_cluster(complete(c, deployment=deployment), NOW)) == ["Deployment"]

    def test_what_the_api_server_fills_in_is_no_change(self) -> None:
        c = cluster()
        c.spec.scheduler.spec["containers"][0]["ports"] = [{"containerPort": 1}]
        deployment = live(copy.deepcopy(scheduler_deployment(c)))
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container["ports"] = [{"protocol": "TCP", **port} for port in container["ports"]]
        container["imagePullPolicy"] = "IfNotPresent"
        assert actions(complete(c, deployment=deployment)) == []

    def test_a_removed_mount_comes_back(self) -> None:
        c = cluster()
        deployment = live(copy.deepcopy(scheduler_deployment(c)))
        deployment["spec"]["template"]["spec"]["volumes"] = []
        assert applied(plan_cluster(complete(c, deployment=deployment), NOW)) == ["Deployment"]

    def test_what_is_added_stays(self) -> None:
        c = cluster()
        deployment = live(copy.deepcopy(scheduler_deployment(c)))
        pod = deployment["spec"]["template"]["spec"]
        pod["containers"].insert(0, {"name": "proxy", "image": "proxy:1"})
        pod["containers"][1]["env"].append({"name": "THEIRS", "value": "1"})
        pod["tolerations"] = [{"operator": "Exists"}]
        deployment["spec"]["template"]["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
        assert actions(complete(c, deployment=deployment)) == []

    def test_what_another_release_of_the_operator_has_added_stands(self) -> None:
        """To change it would restart every scheduler when the operator is upgraded."""
        c = cluster()
        deployment = live(copy.deepcopy(scheduler_deployment(c)))
        deployment["metadata"]["annotations"][Annotation.TEMPLATE] = "another"
        del deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
        assert actions(complete(c, deployment=deployment)) == []
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "theirs"
        assert applied(plan_cluster(complete(c, deployment=deployment), NOW)) == ["Deployment"]

    def test_another_strategy_is_taken_back_before_ours_is_applied(self) -> None:
        c = cluster()
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
        (patch,) = actions(complete(c, deployment=changed(scheduler_deployment(c), strategy=strategy)))
        assert isinstance(patch, Patch)
        assert patch.patch == {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}

    def test_what_can_be_set_right_without_a_restart_is(self) -> None:
        """The template may be that of an earlier release of the operator: to apply ours would restart the scheduler."""
        c = cluster()
        deployment = changed(scheduler_deployment(c), replicas=3)
        deployment["metadata"]["labels"] = {**deployment["metadata"]["labels"], Label.COMPONENT: "theirs"}
        (patch,) = actions(complete(c, deployment=deployment))
        labels = {Label.CLUSTER: "simple", Label.COMPONENT: "scheduler"}
        assert patch.patch == {"metadata": {"labels": labels}, "spec": {"replicas": 1}}

    def test_a_value_that_the_api_server_writes_in_its_own_way_is_no_change(self) -> None:
        c = cluster()
        c.spec.scheduler.spec["containers"][0]["resources"] = {"limits": {"cpu": "1000m"}}
        deployment = live(copy.deepcopy(scheduler_deployment(c)))
        deployment["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "1"}}
        o, stored = complete(c, deployment=deployment), copy.deepcopy(deployment)
        assert not stands(o, "Deployment")
        assert stands_as_stored(o, stored)
        deployment["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "2"}}
        assert not stands_as_stored(o, stored)

    def test_one_that_waits_for_its_pod_to_be_deleted_is_left_as_it_is(self) -> None:
        c = cluster()
        scheduler = msgspec.structs.replace(c.spec.scheduler, update_strategy=SchedulerUpdateStrategy(type="OnDelete"))
        c = msgspec.structs.replace(c, spec=msgspec.structs.replace(c.spec, scheduler=scheduler))
        c = msgspec.structs.replace(c, status=DaskClusterStatus(scheduler_pod_uid=scheduler_pod().uid))
        deployment = live(copy.deepcopy(scheduler_deployment(c)))
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "theirs"
        assert actions(complete(c, deployment=deployment)) == []


class TestBudget:
    def test_one_of_which_the_rule_was_replaced_is_made_anew(self) -> None:
        """The API server takes only one of ``minAvailable`` and ``maxUnavailable``."""
        c = cluster()
        budget = live(disruption_budget(c))
        budget["spec"] = {"minAvailable": 0, "selector": budget["spec"]["selector"]}
        (action,) = actions(complete(c, disruption_budget=budget))
        assert isinstance(action, Delete)

    def test_another_number_is_set_right(self) -> None:
        c = cluster()
        assert applied(
            plan_cluster(complete(c, disruption_budget=changed(disruption_budget(c), maxUnavailable=1)), NOW)
        ) == ["PodDisruptionBudget"]

    @pytest.mark.parametrize("more", [{"matchLabels": {"version": "v2"}}, {"matchExpressions": [{"key": "x"}]}])
    def test_it_protects_the_scheduler_whatever_somebody_adds_to_its_selector(self, more: dict[str, Any]) -> None:
        c = cluster()
        ours = disruption_budget(c)["spec"]["selector"]
        theirs = {**ours, **{key: value | ours.get(key, {}) if key in ours else value for key, value in more.items()}}
        budget = changed(disruption_budget(c), selector=theirs)
        assert applied(plan_cluster(complete(c, disruption_budget=budget), NOW)) == ["PodDisruptionBudget"]


class TestDefaultGroup:
    """(controller 8, strangers 11, node 1)"""

    def edited(self, c: DaskCluster, **worker: Any) -> Any:
        group = live_group(c)
        return msgspec.structs.replace(
            group, spec=msgspec.structs.replace(group.spec, worker=msgspec.structs.replace(group.spec.worker, **worker))
        )

    def test_an_added_field_stays_and_is_not_applied_against(self) -> None:
        c = cluster(idle_timeout=60)
        pod = copy.deepcopy(c.spec.worker.spec)
        pod["tolerations"] = [{"operator": "Exists"}]
        pod["containers"][0]["env"] = [{"name": "THEIRS", "value": "1"}]
        o = complete(c, groups=(self.edited(c, spec=pod),), answers=answers_of(idle_seconds=61))
        assert isinstance(actions(o)[-1], Delete), "idleTimeout works"

    def test_a_changed_field_is_set_right(self) -> None:
        c = cluster()
        pod = copy.deepcopy(c.spec.worker.spec)
        pod["containers"][0]["image"] = "theirs"
        assert applied(plan_cluster(complete(c, groups=(self.edited(c, spec=pod),)), NOW)) == ["DaskWorkerGroup"]

    def test_a_default_that_is_stated_is_set_right_too(self) -> None:
        c = cluster()
        stated = UpdateStrategy(type="RollingUpdate")
        worker = msgspec.structs.replace(c.spec.worker, update_strategy=stated)
        c = msgspec.structs.replace(c, spec=msgspec.structs.replace(c.spec, worker=worker))
        o = complete(c, groups=(self.edited(c, update_strategy=UpdateStrategy(type="OnDelete")),))
        (action,) = actions(o)
        assert isinstance(action, Apply)
        assert action.manifest["spec"]["worker"]["updateStrategy"] == {"type": "RollingUpdate"}

    @pytest.mark.parametrize(("path", "default", "theirs"), DEFAULTS)
    def test_a_default_of_a_pod_that_is_stated_is_set_right_too(self, path: str, default: Any, theirs: Any) -> None:
        c = cluster()
        placed(c.spec.worker.spec, path, default)
        assert actions(complete(c)) == []
        group = self.edited(c, spec=placed(copy.deepcopy(c.spec.worker.spec), path, theirs))
        assert applied(plan_cluster(complete(c, groups=(group,)), NOW)) == ["DaskWorkerGroup"]

    def test_what_is_set_back_to_its_default_is_applied(self) -> None:
        """(node 1) Whether the group differs is told by what was applied last, not by what a default looks like."""
        on_delete = cluster()
        worker = msgspec.structs.replace(on_delete.spec.worker, update_strategy=UpdateStrategy(type="OnDelete"))
        on_delete = msgspec.structs.replace(on_delete, spec=msgspec.structs.replace(on_delete.spec, worker=worker))
        group = live_group(on_delete)
        for back in (None, UpdateStrategy(), UpdateStrategy(type="RollingUpdate")):
            worker = msgspec.structs.replace(on_delete.spec.worker, update_strategy=back)
            c = msgspec.structs.replace(on_delete, spec=msgspec.structs.replace(on_delete.spec, worker=worker))
            (action,) = actions(complete(c, groups=(group,)))
            assert isinstance(action, Apply)
            # The API server leaves null where an empty object takes the place of one whose fields were ours.
            assert (
                "updateStrategy" not in action.manifest["spec"]["worker"]
                or action.manifest["spec"]["worker"]["updateStrategy"]
            )

    @pytest.mark.parametrize("noted", [{}, {Annotation.REVISION: ""}], ids=["no-annotation", "empty"])
    def test_one_of_a_release_that_did_not_note_what_it_applied(self, noted) -> None:
        c = cluster()
        manifest = dump(live_group(c))
        del manifest["metadata"]["annotations"][Annotation.REVISION]
        manifest["metadata"]["annotations"] |= noted
        manifest["spec"]["worker"]["replicas"] = 7  # its own affair
        assert actions(complete(c, groups=(parse(manifest),))) == []
        manifest["spec"]["worker"]["spec"]["tolerations"] = [{"operator": "Exists"}]
        assert applied(plan_cluster(complete(c, groups=(parse(manifest),)), NOW)) == ["DaskWorkerGroup"]


class TestNames:
    """(node 7) What an earlier object of the name leaves is waited for; what is somebody else's is said."""

    def test_garbage_of_the_cluster_before_is_waited_for(self) -> None:
        c = cluster()
        earlier = msgspec.structs.replace(c, metadata={**c.metadata, "uid": "earlier"})
        o = complete(c, service=live(scheduler_service(earlier)))
        plan = plan_cluster(o, NOW)
        assert not plan.actions
        status = cluster_status(o, plan, [], NOW)
        ready = condition(status.conditions, "Ready")
        assert ready.reason == "Progressing"
        assert ready.message == "waiting for Service simple-scheduler of the cluster before to be gone"
        assert status.phase != "Error"

    def test_a_write_that_has_to_wait_is_no_problem(self) -> None:
        c = cluster()
        o = complete(c)
        waits = Outcome(Apply(scheduler_service(c)), "waiting for Service x of before to be gone", "Terminating")
        ready = condition(cluster_status(o, plan_cluster(o, NOW), [waits], NOW).conditions, "Ready")
        assert (ready.status, ready.reason) == ("False", "Progressing")

    @pytest.mark.parametrize("field", ["config_map", "service"])
    def test_nothing_is_made_beside_a_foreign_child(self, field: str) -> None:
        """(strangers 2, found again by tests/faults) A scheduler would load a module of somebody's."""
        c = cluster()
        build = {"config_map": extension_config_map, "service": scheduler_service}[field]
        foreign = live(build(c))
        foreign["metadata"]["ownerReferences"] = []
        assert actions(observed_cluster(c, **{field: foreign})) == []

    def test_others_wait_for_the_config_map_and_the_service(self) -> None:
        needed = [a.manifest["kind"] for a in actions(observed_cluster(cluster())) if a.needed]
        assert needed == ["ConfigMap", "Service"]


class TestIdleness:
    def test_nobody_has_been_idle_for_longer_than_the_cluster_exists(self) -> None:
        """(controller 5, strangers 6) An old scheduler's word, or a liar's, made a new cluster delete itself."""
        c = cluster(idle_timeout=3600)
        c.metadata["creationTimestamp"] = "2027-01-15T07:59:00Z"  # a minute before NOW
        plan = plan_cluster(complete(c, answers=answers_of(idle_seconds=1e9)), NOW)
        assert plan.actions == ()
        assert plan.requeue_after == 3540
