"""What a commit would do: the same as the operator does, told without a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.states import NOW, autoscaler, cluster, group, job, observed_cluster, pod_spec, scheduler_pod

from dask_controller.core.actions import Apply
from dask_controller.core.cluster import plan_cluster
from dask_crds.model import DaskCluster, DaskObject, dump, parse
from dask_resources.cluster import Child
from dask_resources.cluster import children as cluster_children
from dask_resources.scheduler import scheduler_deployment
from dask_synth.diff import Change, Report, Resource, compared
from dask_synth.diff.amounts import quantity, requested
from dask_synth.diff.text import as_json, as_markdown, as_text

ROOT = Path(__file__).parents[2]
Manifest = dict[str, Any]


def manifest(of: DaskObject, **changes: Any) -> Manifest:
    """Of a value, with other values at paths such as ``spec__worker__replicas``; ``None`` leaves a field out."""
    found = json.loads(json.dumps(dump(of)))
    for path, value in changes.items():
        *way, last = path.split("__")
        at = found
        for key in way:
            at = at.setdefault(key, {})
        if value is None:
            at.pop(last, None)
        else:
            at[last] = value
    return found


def report(before: list[Manifest], after: list[Manifest]) -> Report:
    return compared([Resource("", it) for it in before], [Resource("", it) for it in after])


def change(before: Manifest | None, after: Manifest | None) -> Change:
    (found,) = report([before] if before else [], [after] if after else []).changes
    return found


def texts(of: Change) -> list[str]:
    return [effect.text for effect in of.effects]


def resources(cpu: str, **more: str) -> Mapping[str, Any]:
    spec = pod_spec()
    spec["containers"][0]["resources"] = {"requests": {"cpu": cpu, **more}}
    return spec


LOST = "all work of the cluster is lost"


# --- clusters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "effects"),
    [
        ("spec__worker__replicas", 5, ["simple-default: 2 → 5 workers"]),
        ("spec__worker__replicas", 0, ["simple-default: 2 → 0 workers, drained first"]),
        ("spec__worker__spec", pod_spec("dask:2"), ["simple-default: 2 workers replaced, each drained first"]),
        ("spec__worker__metadata", {"labels": {"a": "b"}}, ["nothing is restarted"]),
        (
            "spec__worker__metadata",
            {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
            ["simple-default: 2 workers replaced, each drained first"],
        ),
        ("spec__scheduler__spec", pod_spec("dask:2"), [f"the scheduler is replaced: {LOST}"]),
        ("spec__scheduler__metadata", {"labels": {"a": "b"}}, ["nothing is restarted"]),
        ("spec__scheduler__service", {"type": "NodePort"}, ["Service simple-scheduler is changed"]),
        ("spec__scheduler__evictionPolicy", "Allow", ["PodDisruptionBudget simple-scheduler is deleted"]),
        ("spec__idleTimeout", 60, ["nothing is restarted"]),
        (
            "spec__suspend",
            True,
            [
                f"the scheduler stops: {LOST}",
                "simple-default: 2 → 0 workers, drained first",
                "PodDisruptionBudget simple-scheduler is deleted",
            ],
        ),
        ("metadata__labels", {"a": "b"}, ["nothing is restarted"]),
    ],
)
def test_what_happens_to_a_cluster(field: str, value: Any, effects: list[str]) -> None:
    found = change(manifest(cluster()), manifest(cluster(), **{field: value}))
    assert texts(found) == effects
    assert found.loses_work == any(LOST in effect for effect in effects)
    assert found.action == "changed"


@pytest.mark.parametrize(
    "after",
    [
        manifest(cluster(image="dask:2")),
        manifest(cluster(), spec__worker__spec=pod_spec("dask:2")),
        manifest(cluster(), spec__scheduler__spec={**pod_spec(), "dnsPolicy": "ClusterFirst", "volumes": []}),
        manifest(cluster(), spec__scheduler__service={"type": "NodePort"}),
        manifest(cluster(), spec__scheduler__metadata={"annotations": {"a": "b"}}),
    ],
)
def test_a_scheduler_is_said_to_be_replaced_if_the_operator_replaces_it(after: Manifest) -> None:
    """Defaults that are written down replace nothing."""
    value = parse(after)
    assert isinstance(value, DaskCluster)
    live = scheduler_deployment(cluster())
    live["metadata"]["uid"] = "uid"
    live["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"  # as the API server fills in
    plan = plan_cluster(observed_cluster(value, deployment=live, scheduler_pods=(scheduler_pod(),)), NOW)
    replaced = any(isinstance(a, Apply) and a.manifest["kind"] == "Deployment" for a in plan.actions)
    changes = report([manifest(cluster())], [after]).changes
    assert replaced == any("the scheduler is replaced" in each for it in changes for each in texts(it))


def test_on_delete_nothing_is_replaced() -> None:
    strategies = {
        "spec__scheduler__updateStrategy": {"type": "OnDelete"},
        "spec__worker__updateStrategy": {"type": "OnDelete"},
    }
    found = change(manifest(cluster(), **strategies), manifest(cluster(image="dask:2"), **strategies))
    assert texts(found) == [
        "the scheduler stays as it is until its Pod is deleted (updateStrategy OnDelete)",
        "simple-default: workers stay as they are until they are deleted (updateStrategy OnDelete)",
    ]
    assert not found.loses_work


def test_a_worker_that_may_not_drain_loses_what_it_holds() -> None:
    before = manifest(cluster(), spec__worker__drainTimeoutSeconds=0)
    after = manifest(cluster(), spec__worker__drainTimeoutSeconds=0, spec__worker__spec=pod_spec("dask:2"))
    (effect,) = change(before, after).effects
    assert "what they hold is lost" in effect.text
    assert effect.loses_work


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (3, None, "simple-default: Git does not say any more how many workers; unless somebody else does, it is 1"),
        (None, 3, "simple-default: 3 workers from now on, however many it was scaled to"),
    ],
)
def test_whether_git_says_how_many_is_a_difference(before: int | None, after: int | None, effect: str) -> None:
    old, new = (manifest(cluster(), spec__worker__replicas=number) for number in (before, after))
    assert effect in texts(change(old, new))


def test_new_and_gone() -> None:
    new = change(None, manifest(cluster()))
    assert (new.action, texts(new)) == ("new", ["the scheduler starts", "simple-default starts with 2 workers"])
    gone = change(manifest(cluster()), None)
    assert gone.action == "gone"
    assert texts(gone) == [f"the scheduler stops: {LOST}", "simple-default is deleted with 2 workers"]
    assert gone.loses_work


def test_what_is_the_same_is_not_told() -> None:
    before = manifest(cluster(), status__phase="Running", metadata__resourceVersion="1")
    assert report([before], [manifest(cluster())]).changes == ()


# --- groups and autoscalers -------------------------------------------------------------------------------------------


def test_an_autoscaler_gives_a_span() -> None:
    before = [manifest(cluster())]
    found = report(before, [*before, manifest(autoscaler(1, 8))])
    by_kind = {it.kind: it for it in found.changes}
    assert texts(by_kind["DaskCluster"]) == ["simple-default: 2 → 1-8 workers"]
    assert texts(by_kind["DaskAutoscaler"]) == ["the load decides how many workers there are: simple-default: 1-8"]
    assert (found.before.workers, found.after.workers) == ((2, 2), (1, 8))


def test_a_group_of_its_own() -> None:
    found = change(manifest(group("big")), manifest(group("big", image="dask:2", replicas=4)))
    assert texts(found) == ["big: 2 workers replaced, each drained first", "big: 2 → 4 workers"]


def test_whatever_a_cluster_consists_of_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further groups and autoscalers that it makes are told by `children`, and by nothing else."""

    def children(of: DaskCluster) -> tuple[Child, ...]:
        image = of.spec.worker.spec["containers"][0]["image"]
        gpu = Child("DaskWorkerGroup", "simple-gpu", lambda _: dump(group("simple-gpu", image=image, replicas=1)))
        scaled = Child("DaskAutoscaler", "simple-gpu", lambda _: dump(autoscaler(0, 9, worker_group="simple-gpu")))
        return (*cluster_children(of), gpu, scaled)

    monkeypatch.setattr("dask_synth.diff.state.children", children)
    found = change(manifest(cluster()), manifest(cluster(), spec__worker__spec=pod_spec("dask:2")))
    assert texts(found) == [
        "simple-default: 2 workers replaced, each drained first",
        "simple-gpu: 0-9 workers replaced, each drained first",
    ]
    assert found.after.workers == (2, 11)


def test_a_group_of_a_suspended_cluster_has_no_workers() -> None:
    both = [manifest(cluster(suspend=True)), manifest(group("big"))]
    assert report([], both).after.workers == (0, 0)


def test_each_folder_is_an_environment_of_its_own() -> None:
    """The same names in dev and prod."""
    before = [Resource(place, manifest(cluster())) for place in ("dev", "prod")]
    after = [before[0], Resource("prod", manifest(cluster(replicas=9))), Resource("prod", manifest(autoscaler(1, 8)))]
    found = compared(before, after).changes
    assert [(it.place, it.kind) for it in found] == [("prod", "DaskAutoscaler"), ("prod", "DaskCluster")]
    moved = compared([Resource("old", manifest(cluster()))], [Resource("new", manifest(cluster()))])
    assert moved.changes == (), "a resource that has moved to another file is the same"


# --- jobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (None, {}, "runs"),
        (None, {"spec__suspend": True}, "is held back (suspend)"),
        ({}, {"spec__runId": "2"}, "runs again, after a run that is under way (runId None → '2')"),
        ({"spec__runId": "1"}, {"spec__runId": "2", "spec__suspend": True}, "runs again, once it is resumed"),
        ({}, {"spec__job__spec": pod_spec("run:2")}, "give a new runId"),
        ({}, {"spec__cluster__spec__worker__spec": pod_spec("dask:2")}, "give a new runId"),
        ({}, {"spec__suspend": True}, "is suspended: a run that is under way stops, and its work is lost"),
        ({"spec__suspend": True}, {}, "is resumed"),
        ({}, None, "is deleted: a run that is under way ends"),
        ({}, {"spec__ttlSecondsAfterFinished": 5}, "nothing is restarted"),
        ({"spec__runId": ""}, {"metadata__labels": {"a": "b"}}, "nothing is restarted"),
    ],
)
def test_what_happens_to_a_job(before: Manifest | None, after: Manifest | None, effect: str) -> None:
    old, new = (None if it is None else manifest(job(), **it) for it in (before, after))
    assert any(effect in each for each in texts(change(old, new)))


# --- amounts ----------------------------------------------------------------------------------------------------------


def test_requests_are_counted_for_all_pods() -> None:
    gpu = {"memory": "4Gi", "nvidia.com/gpu": "2"}
    before = manifest(cluster(replicas=1), spec__worker__spec=resources("500m", memory="1Gi"))
    after = manifest(cluster(replicas=3), spec__worker__spec=resources("2", **gpu))
    found = change(before, after)
    assert found.before.requests == {"cpu": (Decimal("0.5"),) * 2, "memory": (Decimal(2**30),) * 2}
    assert found.after.requests["cpu"] == (6, 6)
    assert found.after.requests["nvidia.com/gpu"] == (6, 6)
    text = as_text(report([before], [after]))
    for line in ("workers 1 → 3", "cpu 0.5 → 6", "memory 1Gi → 12Gi", "nvidia.com/gpu 0 → 6"):
        assert line in text


def test_a_job_requests_scheduler_workers_and_runner() -> None:
    spec = resources("1")
    of = manifest(job(), spec__job__spec=spec, spec__cluster__spec__scheduler__spec=spec)
    of["spec"]["cluster"]["spec"]["worker"] = {"spec": spec, "replicas": 4}
    assert change(None, of).after.requests == {"cpu": (6, 6)}


@pytest.mark.parametrize(
    ("pod", "cpu"),
    [
        ({"containers": [{"resources": {"limits": {"cpu": 2}}}]}, 2),
        ({"containers": [{"resources": {"limits": {"cpu": 2}, "requests": {"cpu": 1}}}]}, 1),
        (
            {"containers": [{"resources": {"requests": {"cpu": "500m"}}}, {"resources": {"requests": {"cpu": 1}}}]},
            "1.5",
        ),
        ({"containers": [{}], "initContainers": [{"resources": {"requests": {"cpu": 3}}}]}, 3),
        (
            {
                "containers": [{"resources": {"requests": {"cpu": 1}}}],
                "initContainers": [{"restartPolicy": "Always", "resources": {"requests": {"cpu": 3}}}, {}],
            },
            4,
        ),
        ({"containers": [{}], "overhead": {"cpu": "250m"}}, "0.25"),
        ({"containers": [{"resources": {"requests": {"cpu": 1}}}], "resources": {"requests": {"cpu": 5}}}, 5),
        ({"containers": [{"resources": {"requests": {"cpu": 1}}}, {}], "resources": {"limits": {"cpu": 5}}}, 1),
        ({"containers": [{}, {}], "resources": {"limits": {"cpu": 5}}}, 5),
        ({"containers": [{}], "resources": {"limits": {"cpu": 5}, "requests": {"cpu": 2}}, "overhead": {"cpu": 1}}, 3),
    ],
)
def test_what_a_pod_requests(pod: Manifest, cpu: Any) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers"""
    assert requested(pod) == {"cpu": Decimal(cpu)}


@pytest.mark.parametrize(
    ("name", "amount", "written"),
    [
        ("cpu", "100", "100"),
        ("cpu", "0.100", "0.1"),
        ("memory", 2**30 * 3 // 2, "1.5Gi"),
        ("memory", 0, "0"),
        ("memory", 1000, "1000"),
        ("nvidia.com/gpu", "4000", "4000"),
        ("ephemeral-storage", 2**40, "1Ti"),
    ],
)
def test_amounts_are_written_as_people_write_them(name: str, amount: Any, written: str) -> None:
    assert quantity(name, Decimal(amount)) == written


# --- as text ----------------------------------------------------------------------------------------------------------


def test_markdown_says_what_users_wrote_and_does_nothing_else() -> None:
    found = as_markdown(report([manifest(job())], [manifest(job(), spec__runId="|<img src=x>\n*b*")]))
    row = found.splitlines()[2]
    assert row.count("|") - row.count("\\|") == 4
    assert "<img" not in row
    assert "DaskJob team/hello" in row


def test_json_has_numbers() -> None:
    found = json.loads(as_json(report([], [manifest(cluster(), spec__worker__spec=resources("500m", memory="1Gi"))])))
    assert found["after"] == {"workers": [2, 2], "requests": {"cpu": [1.0, 1.0], "memory": [2**31, 2**31]}}
    assert found["changes"][0]["losesWork"] is False


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A clone with a commit, and a change that was not committed."""
    folder = tmp_path / "dist/dev"
    folder.mkdir(parents=True)
    (folder / "cluster.yaml").write_text(yaml.safe_dump(manifest(cluster())))
    (folder / "more.yaml").write_text("kind: ConfigMap\n")
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    (folder / "cluster.yaml").write_text(yaml.safe_dump(manifest(cluster(replicas=7))))
    return tmp_path


def run(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dask_synth", "diff", *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


def test_the_working_tree_is_compared_with_the_last_commit(repository: Path) -> None:
    done = run(repository, "--exit-code")
    assert done.returncode == 1
    assert "~ DaskCluster team/simple (dev)\n    simple-default: 2 → 7 workers\n" in done.stdout
    assert "\x1b" not in done.stdout, "colours are for terminals"
    assert run(repository).returncode == 0
    subprocess.run(["git", "stash", "-q"], cwd=repository, check=True)
    done = run(repository, "--exit-code")
    assert (done.returncode, done.stdout) == (0, "Nothing changes for Dask.\n")


def test_paths_and_revisions_are_compared(repository: Path) -> None:
    (repository / "other").mkdir()
    (repository / "other/cluster.yaml").write_text(yaml.safe_dump(manifest(cluster(replicas=3))))
    assert "7 → 3 workers" in run(repository, "dist/dev", "other").stdout
    assert "2 → 3 workers" in run(repository, "HEAD", "other/cluster.yaml").stdout
    assert "the scheduler starts" in run(repository, "HEAD", "dist", "--folder", "nowhere").stdout
    assert run(repository, "HEAD", "HEAD").stdout == "Nothing changes for Dask.\n"
    (found,) = json.loads(run(repository, "-o", "json").stdout)["changes"]
    assert found["after"]["workers"] == [7, 7]


def test_the_same_files_of_a_folder_and_of_a_revision_are_read(repository: Path) -> None:
    """Hidden ones are not, and links are followed."""
    for name in ("base/cluster.yaml", "dist/.draft.yaml", "dist/.cache/cluster.yaml"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(yaml.safe_dump(manifest(cluster(replicas=2))))
    (repository / "dist/prod.yaml").symlink_to("linked")
    (repository / "dist/linked").symlink_to("../base/cluster.yaml")
    commit = ("add .", "-c user.name=a -c user.email=a@b commit -qm more")
    for command in commit:
        subprocess.run(["git", *command.split()], cwd=repository, check=True)
    done = run(repository)
    assert (done.stdout, done.stderr) == ("Nothing changes for Dask.\n", "")
    (repository / "base/cluster.yaml").write_text(yaml.safe_dump(manifest(cluster(replicas=9))))
    assert "2 → 9 workers" in run(repository).stdout
    (repository / "base/cluster.yaml").unlink()
    assert "dist/prod.yaml: No such file" in run(repository).stderr
    for command in commit:
        subprocess.run(["git", *command.split()], cwd=repository, check=True)
    assert "dist/prod.yaml: leads to no file of HEAD" in run(repository, "HEAD", "HEAD").stderr


def test_what_was_wrong_before_cannot_have_been_applied(repository: Path) -> None:
    wrong = yaml.safe_dump(manifest(cluster(), spec__scheduler__spec={"containers": [5]}))
    (repository / "dist/dev/cluster.yaml").write_text(wrong)
    (repository / "dist/dev/more.yaml").write_text("a: [")
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "wrong"], cwd=repository, check=True
    )
    (repository / "dist/dev/cluster.yaml").write_text(yaml.safe_dump(manifest(cluster())))
    (repository / "dist/dev/more.yaml").unlink()
    done = run(repository)
    assert done.returncode == 0
    assert "+ DaskCluster team/simple (dev)" in done.stdout
    assert "HEAD is read without what is wrong there: dist/dev/cluster.yaml:" in done.stderr
    assert "HEAD is read without what is wrong there: dist/dev/more.yaml:2: not YAML" in done.stderr


def test_before_the_first_commit_everything_is_new(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/cluster.yaml").write_text(yaml.safe_dump(manifest(cluster())))
    assert "+ DaskCluster team/simple\n" in run(tmp_path).stdout


def test_what_cannot_be_compared_is_told(repository: Path, tmp_path: Path) -> None:
    for arguments, told in (
        (["nonsense"], "nonsense is neither a file or folder nor a revision"),
        (["--", "--output=x"], "neither a file or folder nor a revision"),
    ):
        done = run(repository, *arguments)
        assert done.returncode == 1
        assert told in done.stderr
    (repository / "dist/dev/cluster.yaml").write_text(yaml.safe_dump(manifest(cluster(), spec__workers=5)))
    (repository / "dist/dev/more.yaml").write_text("a: [")
    done = run(repository)
    assert done.returncode == 1
    assert "dist/dev/cluster.yaml:" in done.stderr
    assert "spec.workers: unknown field" in done.stderr
    assert "more.yaml:2: not YAML" in done.stderr
    assert "Traceback" not in done.stderr
