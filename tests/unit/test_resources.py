"""Builders: what is added to a user's template, and what is left as it is."""

from __future__ import annotations

import json

import msgspec
import pytest
from tests.support.states import cluster, group

from dask_crds import names
from dask_crds.model import TemplateMetadata
from dask_resources.metadata import LONGEST_REMEMBERED, inherited, metadata_patch, remembered
from dask_resources.pod import NO_SIDECAR
from dask_resources.revision import revision
from dask_resources.scheduler import scheduler_deployment, scheduler_service
from dask_resources.scheduler_extension import MODULE, MOUNT_PATH, PRELOAD_ARGV_VARIABLE, PRELOAD_VARIABLE, mounted
from dask_resources.worker import worker_metadata, worker_pod

PATH = f"{MOUNT_PATH}/{MODULE}"


def scheduler_container(**fields):
    return {"name": "scheduler", "image": "x", "args": ["dask-scheduler"], **fields}


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

    @pytest.mark.parametrize("value", ['["mine"]', "mine"])
    def test_the_users_own_list_is_kept(self, value):
        env = [{"name": PRELOAD_VARIABLE, "value": value}]
        assert env_of(self.mounted(env=env)["containers"][0])[PRELOAD_VARIABLE] == json.dumps(["mine", PATH])

    def test_nested_arguments_get_one_more(self):
        env = [
            {"name": PRELOAD_VARIABLE, "value": '["mine"]'},
            {"name": PRELOAD_ARGV_VARIABLE, "value": '[["--x"]]'},
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
        assert pod["metadata"]["annotations"][names.WORKER_NAME] == "simple-default-worker-3-abcde"

    def test_the_users_own_variable_wins(self):
        g = group()
        spec = {"containers": [{"name": "w", "env": [{"name": "DASK_WORKER_NAME", "value": "mine"}]}]}
        worker = msgspec.structs.replace(g.spec.worker, spec=spec)
        g = msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=worker))
        assert env_of(worker_pod(g, 0, "abcde")["spec"]["containers"][0])["DASK_WORKER_NAME"] == "mine"

    def test_labels_that_clients_select_on(self):
        labels = worker_pod(group(), 0, "abcde")["metadata"]["labels"]
        assert labels["dask.org/cluster-name"] == "simple"
        assert labels["dask.org/workergroup-name"] == "simple-default"
        assert labels["dask.org/component"] == "worker"


class TestMetadataPatch:
    """The user's labels and annotations of a live object, brought up to date."""

    @staticmethod
    def desired(**labels):
        g = group()
        template = TemplateMetadata(labels=labels, annotations={"note": "x"}) if labels else None
        worker = msgspec.structs.replace(g.spec.worker, metadata=template)
        return worker_metadata(msgspec.structs.replace(g, spec=msgspec.structs.replace(g.spec, worker=worker)))

    def applied(self, **labels):
        return self.desired(**labels)["annotations"][names.LAST_APPLIED]

    def test_nothing_to_do(self):
        assert metadata_patch(self.desired(a="1"), self.applied(a="1")) is None
        assert metadata_patch(self.desired(), "") is None

    def test_new_changed_and_removed_keys(self):
        patch = metadata_patch(self.desired(a="2", b="1"), self.applied(a="1", c="1"))
        assert patch["labels"] == {"a": "2", "b": "1", "c": None}
        assert patch["annotations"] == {"note": "x", names.LAST_APPLIED: self.applied(a="2", b="1")}

    def test_all_removed(self):
        patch = metadata_patch(self.desired(), self.applied(a="1"))
        assert patch == {"labels": {"a": None}, "annotations": {"note": None, names.LAST_APPLIED: None}}

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
            assert metadata_patch(self.desired(), text) == {"labels": {}, "annotations": {names.LAST_APPLIED: None}}

    def test_junk_within_is_left_alone(self):
        junk = '{"labels": {"b": NaN, "": [], "c": {"d": 1}}, "annotations": 7}'
        assert metadata_patch(self.desired(a="1"), junk)["labels"] == {"a": "1", "b": None, "": None, "c": None}

    def test_what_an_object_is_told_apart_by_is_never_the_users(self):
        """Security finding 8: the Pod would be replaced, or its worker not be found."""
        ours = json.dumps({"labels": {names.REVISION: "x"}, "annotations": {names.WORKER_NAME: "x"}})
        assert metadata_patch(self.desired(a="1"), ours) == metadata_patch(self.desired(a="1"), "")
        patch = metadata_patch(self.desired(**{names.REVISION: "x", "a": "1"}), "")
        assert patch["labels"] == {"a": "1"}

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
        ]
        assert spec["selector"] == {"dask.org/cluster-name": "simple", "dask.org/component": "scheduler"}

    def test_flytes_port_names_are_kept(self):
        ports = [{"name": "scheduler", "port": 8786}, {"name": "dashboard", "port": 8787}]
        c = cluster()
        scheduler = msgspec.structs.replace(c.spec.scheduler, service={"ports": ports})
        c = msgspec.structs.replace(c, spec=msgspec.structs.replace(c.spec, scheduler=scheduler))
        assert scheduler_service(c)["spec"]["ports"] == ports


class TestRevision:
    def test_what_clients_send_for_nothing_is_nothing(self):
        assert revision({"a": 1, "env": [], "resources": {}, "x": None}) == revision({"a": 1})

    def test_a_choice_of_volume_is_something(self):
        assert revision({"name": "v", "emptyDir": {}}) != revision({"name": "v"})

    def test_order_of_keys_does_not_matter_and_values_do(self):
        assert revision({"a": 1, "b": 2}) == revision({"b": 2, "a": 1}) != revision({"a": 1, "b": 3})


@pytest.mark.parametrize(
    "key",
    [
        "argocd.argoproj.io/tracking-id",
        "app.kubernetes.io/instance",
        "kustomize.toolkit.fluxcd.io/name",
        "meta.helm.sh/release-name",
        "kubectl.kubernetes.io/last-applied-configuration",
        "config.kubernetes.io/origin",
    ],
)
def test_tracking_keys_are_not_inherited(key):
    assert inherited({key: "x", "team": "data"}) == {"team": "data"}
