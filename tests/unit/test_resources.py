"""Builders: what is added to a user's template, and what is left as it is."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.support.states import cluster, group, job

from dask_crds.inheritance import inherited
from dask_crds.model import DaskCluster, DaskWorkerGroup, TemplateMetadata
from dask_crds.names import Annotation, Label
from dask_resources.cluster import children
from dask_resources.job import job_cluster, runner_job
from dask_resources.metadata import (
    LONGEST_REMEMBERED,
    metadata_patch,
    remembered,
    tracked,
    without,
    written,
)
from dask_resources.pod import NO_SIDECAR
from dask_resources.revision import revision
from dask_resources.scheduler import (
    leads_to,
    scheduler_deployment,
    scheduler_metadata,
    scheduler_service,
)
from dask_resources.scheduler_extension import MODULE, MOUNT_PATH, PRELOAD_ARGV_VARIABLE, PRELOAD_VARIABLE, mounted
from dask_resources.worker import worker_metadata, worker_pod

PATH = f"{MOUNT_PATH}/{MODULE}"


def scheduler_container(**fields):
    return {"name": "scheduler", "image": "x", "args": ["dask-scheduler"], **fields}


def with_runner_env(of, *env):
    template = msgspec.structs.replace(of.spec.job, spec={"containers": [{"name": "job", "env": list(env)}]})
    return msgspec.structs.replace(of, spec=msgspec.structs.replace(of.spec, job=template))


def env_of(container):
    return {variable["name"]: variable.get("value") for variable in container["env"]}


class TestExtension:
    def mounted(self, **fields):
        return mounted({"containers": [scheduler_container(**fields), {"name": "sidecar"}]}, "module")

    def test_only_the_first_container_loads_it(self):
        spec = self.mounted()
        scheduler, sidecar = spec["containers"]
        assert env_of(scheduler) == {PRELOAD_VARIABLE: json.dumps([PATH]), PRELOAD_ARGV_VARIABLE: "[]"}
        assert scheduler["volumeMounts"] == [{"name": "dask-gitops", "mountPath": MOUNT_PATH, "readOnly": True}]
        assert sidecar == {"name": "sidecar"}
        assert spec["volumes"] == [{"name": "dask-gitops", "configMap": {"name": "module"}}]

    @pytest.mark.parametrize(
        ("taken", "name"),
        [
            (["dask-gitops"], "dask-gitops-0"),
            (["dask-gitops-0", "dask-gitops", "dask-gitops-1"], "dask-gitops-2"),
            (["dask-gitops-0"], "dask-gitops"),
        ],
    )
    def test_a_volume_of_that_name_is_the_users(self, taken, name):
        """The Deployment was refused (public 19)."""
        volumes = [{"name": volume, "emptyDir": {}} for volume in taken]
        spec = mounted({"containers": [scheduler_container()], "volumes": volumes}, "module")
        assert spec["volumes"] == [*volumes, {"name": name, "configMap": {"name": "module"}}]
        assert [mount["name"] for mount in spec["containers"][0]["volumeMounts"]] == [name]

    @pytest.mark.parametrize("value", ['["mine"]', "mine", "['mine']", "('mine',)", "'mine'"])
    def test_the_users_own_list_is_kept(self, value):
        """Also one in Python's form, which Dask reads: it became the name of a module that there is not."""
        env = [{"name": PRELOAD_VARIABLE, "value": value}]
        assert env_of(self.mounted(env=env)["containers"][0])[PRELOAD_VARIABLE] == json.dumps(["mine", PATH])

    @pytest.mark.parametrize("value", ["", "[]", "None", "null", "()"])
    def test_a_list_of_nothing_is_nothing(self, value):
        env = [{"name": PRELOAD_VARIABLE, "value": value}]
        assert env_of(self.mounted(env=env)["containers"][0])[PRELOAD_VARIABLE] == json.dumps([PATH])

    @pytest.mark.parametrize("value", ["[" * 100_000, "-" * 100_000, "{1}", "{(1,): 2}", "b'x'"], ids=lambda v: v[:9])
    def test_what_is_no_list_ends_nobody(self, value):
        env = [{"name": name, "value": value} for name in (PRELOAD_VARIABLE, PRELOAD_ARGV_VARIABLE)]
        found = env_of(self.mounted(env=env)["containers"][0])
        assert json.loads(found[PRELOAD_VARIABLE]) == [value, PATH]
        assert found[PRELOAD_ARGV_VARIABLE] == value

    @pytest.mark.parametrize("value", ['[["--x"]]', "[['--x']]", "(('--x',),)"])
    def test_nested_arguments_get_one_more(self, value):
        env = [
            {"name": PRELOAD_VARIABLE, "value": '["mine"]'},
            {"name": PRELOAD_ARGV_VARIABLE, "value": value},
        ]
        assert env_of(self.mounted(env=env)["containers"][0])[PRELOAD_ARGV_VARIABLE] == '[["--x"], []]'

    @pytest.mark.parametrize("option", [["--preload", "mine.py"], ["--preload=mine.py"]])
    def test_a_preload_on_the_command_line_gets_company(self, option):
        args = self.mounted(args=["dask-scheduler", *option])["containers"][0]["args"]
        assert args == ["dask-scheduler", "--preload", PATH, *option]

    def test_a_list_from_a_secret_is_left_alone(self):
        variable = {"name": PRELOAD_VARIABLE, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
        assert self.mounted(env=[variable])["containers"][0]["env"] == [variable]


class TestWorkerPod:
    def test_environment_is_added_to_every_container(self):
        pod = worker_pod(group(), 3, "abcde", domain="example.org")
        assert env_of(pod["spec"]["containers"][0]) == {
            "DASK_WORKER_NAME": "simple-default-worker-3-abcde",
            "DASK_SCHEDULER_ADDRESS": "tcp://simple-scheduler.team.svc.example.org:8786",
        }
        assert pod["metadata"]["name"] == "simple-default-worker-3"
        assert pod["metadata"]["annotations"][Annotation.WORKER_NAME] == "simple-default-worker-3-abcde"

    @staticmethod
    def with_env(*env):
        g = group()
        worker = msgspec.structs.replace(g.spec.worker, spec={"containers": [{"name": "w", "env": list(env)}]})
        g = msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=worker))
        return worker_pod(g, 0, "abcde")["spec"]["containers"][0]

    def test_the_users_own_variable_wins(self):
        assert env_of(self.with_env({"name": "DASK_WORKER_NAME", "value": "mine"}))["DASK_WORKER_NAME"] == "mine"

    def test_a_variable_may_refer_to_ours(self):
        """Kubernetes expands `$(NAME)` of variables that come before (public 37)."""
        tag = {"name": "TAG", "value": "$(DASK_WORKER_NAME)-x"}
        found = [variable["name"] for variable in self.with_env(tag)["env"]]
        assert found == ["DASK_WORKER_NAME", "DASK_SCHEDULER_ADDRESS", "TAG"]
        env = runner_job(with_runner_env(job(), tag))["spec"]["template"]["spec"]["containers"][0]["env"]
        assert [variable["name"] for variable in env] == ["DASK_SCHEDULER_ADDRESS", "TAG"]

    def test_labels_that_clients_select_on(self):
        labels = worker_pod(group(), 0, "abcde")["metadata"]["labels"]
        assert labels["dask.org/cluster-name"] == "simple"
        assert labels["dask.org/workergroup-name"] == "simple-default"
        assert labels["dask.org/component"] == "worker"


class TestLastWords:
    """What a container that fails has logged last comes with its Pod's status."""

    def containers(self, **stated: Any) -> dict[str, Any]:
        sidecar = {"name": "sidecar", "image": "x"}
        spec = {"containers": [sidecar, {"name": "worker", "image": "dask:1", **stated}]}
        worker = msgspec.structs.replace(group().spec.worker, spec=spec)
        pod = worker_pod(
            msgspec.structs.replace(group(), spec=msgspec.structs.replace(group().spec, worker=worker)), 0, "a"
        )
        return {c["name"]: c.get("terminationMessagePolicy") for c in pod["spec"]["containers"]}

    def test_of_the_worker_and_of_nobody_else(self):
        assert self.containers() == {"worker": "FallbackToLogsOnError", "sidecar": None}

    @pytest.mark.parametrize("policy", ["File", "FallbackToLogsOnError"])
    def test_what_its_user_says_counts(self, policy):
        assert self.containers(terminationMessagePolicy=policy)["worker"] == policy

    def test_of_the_runner(self):
        (runner,) = runner_job(job())["spec"]["template"]["spec"]["containers"]
        assert runner["terminationMessagePolicy"] == "FallbackToLogsOnError"


class TestMetadataPatch:
    """The user's labels and annotations of a live object, brought up to date."""

    @staticmethod
    def desired(**labels):
        c = cluster()
        template = TemplateMetadata(labels=labels, annotations={"note": "x"}) if labels else None
        scheduler = msgspec.structs.replace(c.spec.scheduler, metadata=template)
        return scheduler_metadata(msgspec.structs.replace(c, spec=msgspec.structs.replace(c.spec, scheduler=scheduler)))

    def applied(self, **labels):
        return self.desired(**labels)["annotations"][Annotation.LAST_APPLIED]

    def test_nothing_to_do(self):
        assert metadata_patch(self.desired(a="1"), self.applied(a="1")) is None
        assert metadata_patch(self.desired(), "") is None

    def test_new_changed_and_removed_keys(self):
        patch = metadata_patch(self.desired(a="2", b="1"), self.applied(a="1", c="1"))
        assert patch["labels"] == {"a": "2", "b": "1", "c": None}
        assert patch["annotations"] == {"note": "x", Annotation.LAST_APPLIED: self.applied(a="2", b="1")}

    def test_all_removed(self):
        patch = metadata_patch(self.desired(), self.applied(a="1"))
        assert patch == {"labels": {"a": None}, "annotations": {"note": None, Annotation.LAST_APPLIED: None}}

    def test_a_default_of_ours_comes_to_light_again(self):
        (key,) = NO_SIDECAR
        patch = metadata_patch(self.desired(), self.applied(**{key: "true"}))
        assert patch["labels"] == NO_SIDECAR

    def test_an_object_of_an_older_operator_is_completed(self):
        assert metadata_patch(self.desired(a="1"), "")["labels"] == {"a": "1"}

    @pytest.mark.parametrize(
        "junk",
        [
            "x",
            "[]",
            "7",
            "null",
            "NaN",
            '{"labels": NaN}',
            '{"labels": ["a"], "annotations": "b"}',
            '{"labels": null}',
            '{"a": 1}',
            "9" * 5000,
            '{"labels": {"\\ud800": "half of a character"}}',
            '{"labels":' * 1_000_000,
            "[" * 4000,
            "sha256:0",
        ],
        ids=lambda junk: junk[:20],
    )
    def test_junk_counts_as_if_nothing_was_there(self, junk):
        """Security finding 8: it wedged the group of the Pod whose annotation somebody had written."""
        for text in (junk, remembered(junk)):
            assert metadata_patch(self.desired(a="1"), text) == metadata_patch(self.desired(a="1"), "")
            assert metadata_patch(self.desired(), text) == {
                "labels": {},
                "annotations": {Annotation.LAST_APPLIED: None},
            }

    def test_junk_within_is_left_alone(self):
        junk = '{"labels": {"b": NaN, "": [], "c": {"d": 1}}, "annotations": 7}'
        assert metadata_patch(self.desired(a="1"), junk)["labels"] == {"a": "1", "b": None, "": None, "c": None}

    def test_what_an_object_is_told_apart_by_is_never_the_users(self):
        """Security finding 8: the Pod would be replaced, or its worker not be found."""
        ours = json.dumps({"labels": {Label.REVISION: "x"}, "annotations": {Annotation.WORKER_NAME: "x"}})
        assert metadata_patch(self.desired(a="1"), ours) == metadata_patch(self.desired(a="1"), "")
        patch = metadata_patch(self.desired(**{Annotation.REVISION: "x", "a": "1"}), "")
        assert patch["labels"] == {"a": "1"}

    def test_a_template_that_was_copied_from_a_live_object_keeps_no_account_of_the_next(self):
        """A cluster with the note of its limit had no workers, and its runner waited for them."""
        live = {Annotation.MOST_WORKERS: "0", Annotation.SUSPENDED: "by-job", Annotation.WORKLOAD: "x", "team": "x"}
        j = job()
        its = msgspec.structs.replace(j.spec.cluster, metadata=TemplateMetadata(annotations=live))
        j = msgspec.structs.replace(j, spec=msgspec.structs.replace(j.spec, cluster=its))
        annotations = job_cluster(j)["metadata"]["annotations"]
        assert {key for key in annotations if key in live} == {"team"}

    def test_long_metadata_is_remembered_by_its_digest(self):
        long = {f"a{n}": "x" for n in range(LONGEST_REMEMBERED // 5)}
        memory = remembered(self.applied(**long))
        assert len(memory) < 100
        assert memory == remembered(memory)
        assert metadata_patch(self.desired(**long), memory) is None
        assert metadata_patch(self.desired(**long), self.applied(**long)) is None
        patch = metadata_patch(self.desired(a="1"), memory)
        assert patch == metadata_patch(self.desired(a="1"), "")
        assert metadata_patch(self.desired(**long, b="2"), memory)["labels"] == {**long, "b": "2"}


class TestScheduler:
    def test_there_is_never_more_than_one(self):
        spec = scheduler_deployment(cluster())["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
        assert spec["selector"]["matchLabels"] == {
            "dask.org/cluster-name": "simple",
            "dask.org/component": "scheduler",
        }, "user labels in a selector could never be changed again"

    def test_a_service_left_out_has_both_named_ports(self):
        spec = scheduler_service(cluster())["spec"]
        assert [(port["name"], port["port"]) for port in spec["ports"]] == [
            ("tcp-comm", 8786),
            ("http-dashboard", 8787),
            ("dask-gitops", 8788),
        ]
        assert spec["selector"] == {"dask.org/cluster-name": "simple", "dask.org/component": "scheduler"}

    def ports(self, *stated):
        c = cluster()
        scheduler = msgspec.structs.replace(c.spec.scheduler, service={"ports": list(stated)})
        c = msgspec.structs.replace(c, spec=msgspec.structs.replace(c.spec, scheduler=scheduler))
        return scheduler_service(c)["spec"]["ports"]

    def test_flytes_port_names_are_kept(self):
        ports = [{"name": "scheduler", "port": 8786}, {"name": "dashboard", "port": 8787}]
        assert self.ports(*ports)[:-1] == ports

    @pytest.mark.parametrize(
        ("port", "name"),
        [
            ({"port": 8786}, "tcp-comm"),
            ({"port": 80, "targetPort": 8787}, "http-dashboard"),
            ({"port": 80, "targetPort": "http"}, "port-80"),
            ({"port": 80, "name": ""}, "port-80"),
        ],
    )
    def test_a_single_port_of_no_name_has_one_beside_the_port_for_orders(self, port, name):
        assert [port["name"] for port in self.ports(port)] == [name, "dask-gitops"]


class TestRevision:
    def test_what_clients_send_for_nothing_is_nothing(self):
        assert revision({"a": 1, "env": [], "resources": {}, "x": None}) == revision({"a": 1})

    def test_a_choice_of_volume_is_something(self):
        assert revision({"name": "v", "emptyDir": {}}) != revision({"name": "v"})

    def test_order_of_keys_does_not_matter_and_values_do(self):
        assert revision({"a": 1, "b": 2}) == revision({"b": 2, "a": 1}) != revision({"a": 1, "b": 3})


class TestInheritedKeys:
    """Labels and annotations by which tools track or queue their own objects (controller 14, public 01)."""

    TRACKING = (
        "addon.kops.k8s.io/name",
        "addonmanager.kubernetes.io/mode",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        "app.oam.dev/name",
        "applyset.kubernetes.io/id",
        "applyset.kubernetes.io/part-of",
        "apps.open-cluster-management.io/hosting-subscription",
        "argocd.argoproj.io/instance",
        "argocd.argoproj.io/tracking-id",
        "cli-utils.sigs.k8s.io/inventory-id",
        "config.k8s.io/owning-inventory",
        "config.kubernetes.io/origin",
        "configmanagement.gke.io/managed",
        "configsync.gke.io/resource-id",
        "crossplane.io/composite",
        "dask.org/revision",
        "dev.okteto.com/deployed-by",
        "fleet.cattle.io/bundle-name",
        "gitops.jenkins-x.io/pipeline",
        "helm.sh/chart",
        "helm.toolkit.fluxcd.io/name",
        "hnc.x-k8s.io/inherited-from",
        "internal.config.kubernetes.io/index",
        "internal.kro.run/owned",
        "kapp.k14s.io/app",
        "kapp.k14s.io/association",
        "karmada.io/managed",
        "kluctl.io/discriminator",
        "kopf.zalando.org/last-handled-configuration",
        "kro.run/instance-id",
        "kro.run/owned",
        "kubectl.kubernetes.io/last-applied-configuration",
        "kueue.x-k8s.io/priority-class",
        "kueue.x-k8s.io/queue-name",
        "kustomize.toolkit.fluxcd.io/name",
        "meta.helm.sh/release-name",
        "metacontroller.k8s.io/decorator-controller",
        "objectset.rio.cattle.io/hash",
        "olm.owner",
        "olm.owner.namespace",
        "operators.coreos.com/dask.team",
        "pipecd.dev/managed-by",
        "project.werf.io/name",
        "projectsveltos.io/reference-name",
        "propagationpolicy.karmada.io/name",
        "pulumi.com/patchForce",
        "qbec.io/application",
        "skaffold.dev/run-id",
        "tanka.dev/environment",
        "tilt.dev/resource",
        "werf.io/version",
        "workflows.argoproj.io/workflow",
    )
    #: Others that look like them, and those by which schedulers of Pods know a Pod's queue.
    OTHERS = (
        "app",
        "app.kubernetes.io/name",
        "app.kubernetes.io/part-of",
        "applyset",
        "dask-team.org/owner",
        "kro.running/x",
        "my-helm.sh/x",
        "queue",
        "scheduling.volcano.sh/queue-name",
        "team",
        "velero.io/exclude-from-backup",
        "wave.pusher.com/update-on-config-change",
        "yunikorn.apache.org/queue",
    )

    @pytest.mark.parametrize("key", TRACKING)
    def test_tracking_keys_are_not_inherited(self, key):
        assert inherited({key: "x", "team": "data"}) == {"team": "data"}

    @pytest.mark.parametrize("key", OTHERS)
    def test_other_keys_are(self, key):
        assert inherited({key: "x"}) == {key: "x"}

    def keys(self):
        return dict.fromkeys((*self.TRACKING, "team"), "x")

    def parents(self):
        metadata = {"labels": self.keys(), "annotations": self.keys()}
        for value in (cluster(), group(), job()):
            yield msgspec.structs.replace(value, metadata=value.metadata | metadata)

    def children(self, value):
        """Every object that is made of a resource, and the Pods of those that make some."""
        match value:
            case DaskCluster():
                return [child.build(value) for child in children(value)]
            case DaskWorkerGroup():
                return [worker_pod(value, 0, "abcde")]
        return [job_cluster(value), runner_job(value)]

    def test_no_child_carries_what_its_parent_is_tracked_by(self):
        kinds = set()
        for value in self.parents():
            for child in self.children(value):
                kinds.add(child["kind"])
                template = child["spec"].get("template") if child["kind"] in ("Deployment", "Job") else None
                for metadata in (child["metadata"], *([template["metadata"]] if template else [])):
                    for field in ("labels", "annotations"):
                        assert not {key for key in metadata[field] if not key.startswith("dask.org/")} & {
                            *self.TRACKING
                        }
                        assert metadata[field]["team"] == "x"
        assert len(kinds) == 8

    def test_what_a_template_states_is_the_users_own_word(self):
        """Someone may want each worker queued by itself."""
        queued = {"kueue.x-k8s.io/queue-name": "small", "applyset.kubernetes.io/part-of": "x"}
        g = group()
        worker = msgspec.structs.replace(g.spec.worker, metadata=TemplateMetadata(labels=queued))
        g = msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=worker))
        assert queued.items() <= worker_pod(g, 0, "abcde")["metadata"]["labels"].items()

    def test_an_older_operators_children_lose_them_in_place(self):
        """Else the next `kubectl apply --prune --applyset` would remove them, and a restart would lose work."""
        old = {"applyset.kubernetes.io/part-of": "x", "kueue.x-k8s.io/queue-name": "q", "team": "data"}
        metadata = worker_metadata(group())
        now = metadata | {"annotations": {Annotation.LAST_APPLIED: written({"labels": {"team": "data"}})}}
        now["labels"] = metadata["labels"] | {"team": "data"}
        patch = metadata_patch(now, written({"labels": old}))
        assert patch["labels"] == dict.fromkeys(old) | {"team": "data"}

    def test_an_admin_names_more(self):
        metadata = {
            "name": "x",
            "labels": {"corp.example/a": "1", "corp.example.org/b": "2"},
            "annotations": {"note": "x"},
        }
        assert without(metadata, ("corp.example/", "not")) == {
            "name": "x",
            "labels": {"corp.example.org/b": "2"},
            "annotations": {},
        }
        assert without(metadata, ()) == metadata
        assert without({"name": "x", "labels": None}, ("a",)) == {"name": "x", "labels": None}

    def test_what_tells_who_owns_a_resource_stays(self):
        """What no child inherits anyway is read for other reasons."""
        labels = {"argocd.argoproj.io/instance": "app", Label.CLUSTER: "simple"}
        assert without({"labels": labels}, ("argocd", "dask.org/")) == {"labels": labels}
        assert tracked({"labels": labels})

    def test_who_prunes_an_object_ends_its_life(self):
        for key in ("applyset.kubernetes.io/part-of", "kapp.k14s.io/app", "kluctl.io/discriminator", "meta.helm.sh/x"):
            assert tracked({"labels": {key: "x"}})
            assert tracked({"annotations": {key: "x"}})
        for key in ("kubectl.kubernetes.io/last-applied-configuration", "kueue.x-k8s.io/queue-name", "team"):
            assert not tracked({"labels": {key: "x"}, "annotations": None})


class TestListening:
    """(node 3) A scheduler without a probe counted as ready two seconds after its creation."""

    def probe(self, container: dict[str, Any] | None = None, service: Any = None) -> Any:
        c = cluster()
        c.spec.scheduler.spec["containers"][0].update(container or {})  # type: ignore[typeddict-item]
        scheduler = msgspec.structs.replace(c.spec.scheduler, service=service)
        c = msgspec.structs.replace(c, spec=msgspec.structs.replace(c.spec, scheduler=scheduler))
        return scheduler_deployment(c)["spec"]["template"]["spec"]["containers"][0].get("startupProbe")

    def test_it_has_started_when_it_listens(self) -> None:
        assert self.probe()["tcpSocket"] == {"port": 8786}

    def test_of_several_ports_of_a_name_the_one_counts_that_kubernetes_takes(self):
        """The last counted: the scheduler was ready when its proxy listened, or never."""
        ports = [{"name": "c", "protocol": "UDP", "containerPort": 7}, {"name": "c", "containerPort": 9786}]
        pod = {
            "containers": [
                {"name": "s", "ports": ports},
                {"name": "proxy", "ports": [{**ports[1], "containerPort": 1}]},
            ]
        }
        assert leads_to({"port": 8786, "targetPort": "c"}, pod) == 9786
        assert leads_to({"port": 8786, "targetPort": "c", "protocol": "SCTP"}, pod) is None

    def test_where_its_service_leads_to(self) -> None:
        assert (
            self.probe(service={"ports": [{"name": "tcp-comm", "port": 1, "targetPort": 9786}]})["tcpSocket"]["port"]
            == 9786
        )
        assert self.probe(service={"ports": [{"port": 8786}]})["tcpSocket"]["port"] == 8786
        named = {"ports": [{"name": "c", "containerPort": 9786}]}
        assert (
            self.probe(named, {"ports": [{"name": "tcp-comm", "port": 1, "targetPort": "c"}]})["tcpSocket"]["port"]
            == 9786
        )

    @pytest.mark.parametrize(
        "container",
        [
            {"readinessProbe": {"httpGet": {"port": 8787, "path": "/health"}}},
            {"startupProbe": {"exec": {"command": ["true"]}}},
        ],
    )
    def test_who_has_a_probe_knows_better(self, container: Any) -> None:
        assert self.probe(container) in (None, container.get("startupProbe"))

    @pytest.mark.parametrize(
        "service",
        [{"ports": [{"name": "x", "port": 1}]}, {"ports": [{"name": "tcp-comm", "port": 1, "targetPort": "?"}]}],
    )
    def test_none_where_the_port_is_not_known(self, service: Any) -> None:
        assert self.probe(service=service) is None
