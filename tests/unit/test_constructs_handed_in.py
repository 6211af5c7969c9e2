"""Objects of cdk8s-plus as arguments: applied before what uses them, and of its namespace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.constructs import IMAGE, chart, errors, synth

from dask_constructs import (
    DaskCluster,
    DaskCronJob,
    DaskExposure,
    DaskJob,
    DaskOperator,
    DaskWorkerGroup,
    History,
    Tls,
    Volume,
)

import cdk8s  # isort: skip - after dask_constructs, which finds Node.js for it

import cdk8s_plus_34 as plus  # isort: skip

Make = Callable[[cdk8s.Chart], Any]


def account(c: cdk8s.Chart) -> Any:
    return plus.ServiceAccount(c, "given", metadata={"name": "given"})


def secret(c: cdk8s.Chart) -> Any:
    return plus.Secret(c, "given", metadata={"name": "given"})


def settings(c: cdk8s.Chart) -> Any:
    return plus.ConfigMap(c, "given", metadata={"name": "given"})


def claim(c: cdk8s.Chart) -> Any:
    return plus.PersistentVolumeClaim(c, "given", metadata={"name": "given"})


def priority(c: cdk8s.Chart) -> Any:
    metadata = plus.k8s.ObjectMeta(name="given")
    return plus.k8s.KubePriorityClass(c, "given", value=1, metadata=metadata)


def storage(c: cdk8s.Chart) -> Any:
    return plus.k8s.KubeStorageClass(c, "given", provisioner="x", metadata=plus.k8s.ObjectMeta(name="given"))


def devices(c: cdk8s.Chart) -> Any:
    devices = plus.k8s.DeviceClaim()
    spec = plus.k8s.ResourceClaimTemplateSpec(spec=plus.k8s.ResourceClaimSpec(devices=devices))
    return plus.k8s.KubeResourceClaimTemplate(c, "given", spec=spec, metadata=plus.k8s.ObjectMeta(name="given"))


#: What takes an object, the object, and the user of it.
USERS: dict[str, tuple[Make, Callable[[cdk8s.Chart, Any], object]]] = {
    "service_account": (account, lambda c, it: DaskCluster(c, "c", image=IMAGE, service_account=it)),
    "image_pull_secrets[0]": (secret, lambda c, it: DaskCluster(c, "c", image=IMAGE, image_pull_secrets=[it])),
    "env_from[0]": (settings, lambda c, it: DaskCluster(c, "c", image=IMAGE, env_from=[it])),
    "volumes['/d']": (claim, lambda c, it: DaskCluster(c, "c", image=IMAGE, volumes={"/d": it})),
    "volumes['/s']": (secret, lambda c, it: DaskCluster(c, "c", image=IMAGE, volumes={"/s": Volume.secret(it)})),
    "scheduler['service_account']": (
        account,
        lambda c, it: DaskCluster(c, "c", image=IMAGE, scheduler={"service_account": it}),
    ),
    "runner['env_from'][0]": (
        secret,
        lambda c, it: DaskJob(c, "c", image=IMAGE, command=["true"], runner={"env_from": [it]}),
    ),
    "starter_service_account": (
        account,
        lambda c, it: DaskCronJob(
            c, "c", image=IMAGE, command=["true"], schedule="@daily", starter_service_account=it, name="c"
        ),
    ),
    "tls_secret": (
        secret,
        lambda c, it: DaskExposure(c, "c", cluster="c", host="dask.example.org", tls_secret=it),
    ),
    "history": (claim, lambda c, it: DaskCluster(c, "c", image=IMAGE, history=History.claim(it))),
    "security": (secret, lambda c, it: DaskCluster(c, "c", image=IMAGE, security=Tls.secret(it))),
    "resource_claims['gpu']": (devices, lambda c, it: DaskCluster(c, "c", image=IMAGE, resource_claims={"gpu": it})),
    "volumes['/late']": (claim, lambda c, it: DaskCluster(c, "c", image=IMAGE).workers.mount("/late", it)),
    "volumes['/group']": (
        claim,
        lambda c, it: DaskJob(c, "c", image=IMAGE, command=["true"]).add_worker_group("big", volumes={"/group": it}),
    ),
}
users = pytest.mark.parametrize(("make", "use"), USERS.values(), ids=USERS)


@users
def test_an_object_is_applied_before_what_uses_it(make: Make, use: Callable[[cdk8s.Chart, Any], object]) -> None:
    """Though it was declared after something else of the chart, and is written into another chart's file as well."""
    app = cdk8s.Testing.app()
    ours, theirs = (cdk8s.Chart(app, id, namespace="team") for id in ("a-ours", "b-theirs"))
    use(ours, make(theirs))
    app.synth()
    files = sorted(path.name for path in Path(app.outdir).iterdir())
    assert files == ["0000-b-theirs.k8s.yaml", "0001-a-ours.k8s.yaml"]


@users
def test_an_object_of_another_namespace_is_told(make: Make, use: Callable[[cdk8s.Chart, Any], object]) -> None:
    app = cdk8s.Testing.app()
    ours, theirs = cdk8s.Chart(app, "ours", namespace="team"), cdk8s.Chart(app, "theirs", namespace="platform")
    it = make(theirs)
    use(ours, it)
    keyword = next(keyword for keyword, row in USERS.items() if row == (make, use))
    told = f"{keyword}: must be in the namespace 'team'; {it.kind} 'given' (theirs/given) is in 'platform'"
    assert errors(ours) == [f"[ours/c] {told}"]


def test_within_a_chart_the_object_comes_first() -> None:
    c = chart(namespace="team")
    cluster = DaskCluster(c, "c", name="c", image=IMAGE)
    group = cluster.add_worker_group("big")
    group.workers.add(service_account=account(c))
    cluster.workers.mount("/d", claim(cluster))  # type: ignore[arg-type]
    assert [m["kind"] for m in synth(c)] == [
        "PersistentVolumeClaim",
        "DaskCluster",
        "ServiceAccount",
        "DaskWorkerGroup",
    ]


def test_objects_within_a_construct_that_uses_them_are_no_cycle() -> None:
    c = chart(namespace="team")
    cluster = DaskCluster(c, "c", name="c", image=IMAGE)
    for name in ("a", "b"):
        made = plus.PersistentVolumeClaim(cluster, name, metadata={"name": name})
        cluster.workers.mount(f"/{name}", made)
    assert [m["metadata"]["name"] for m in synth(c)] == ["a", "b", "c"]


@pytest.mark.parametrize("nested", [False, True], ids=["each other", "nested"])
def test_charts_that_use_each_others_objects_are_no_cycle(nested: bool) -> None:
    """cdk8s writes a chart after those within it; GitOps tools and the kubelet try again what is too early."""
    app = cdk8s.Testing.app()
    one = cdk8s.Chart(app, "one", namespace="team")
    other = cdk8s.Chart(one if nested else app, "other", namespace="team")
    DaskCluster(other, "c", name="x", image=IMAGE, service_account=account(one))
    DaskCluster(one, "c", name="y", image=IMAGE, env_from=[settings(other)])
    app.synth()
    written = [yaml.safe_load_all(path.read_text()) for path in Path(app.outdir).iterdir()]
    assert sorted(m["kind"] for documents in written for m in documents) == [
        *("ConfigMap", "DaskCluster", "DaskCluster", "ServiceAccount")
    ]


def test_an_object_of_another_app_changes_nothing_of_this_one() -> None:
    apart = plus.ServiceAccount(chart(namespace="team"), "given", metadata={"name": "given"})
    app = cdk8s.Testing.app()
    DaskCluster(cdk8s.Chart(app, "ours", namespace="team"), "c", name="c", image=IMAGE, service_account=apart)
    app.synth()
    assert [path.name for path in Path(app.outdir).iterdir()] == ["ours.k8s.yaml"]


def test_our_own_kinds_are_applied_in_any_order() -> None:
    """The operator waits, so files keep their names."""
    app = cdk8s.Testing.app()
    clusters, groups = (cdk8s.Chart(app, id, namespace="team") for id in ("clusters", "groups"))
    DaskWorkerGroup(groups, "g", cluster=DaskCluster(clusters, "c", name="c", image=IMAGE), image=IMAGE)
    app.synth()
    assert sorted(path.name for path in Path(app.outdir).iterdir()) == ["clusters.k8s.yaml", "groups.k8s.yaml"]


@pytest.mark.parametrize("spill", [False, True], ids=["PriorityClass", "StorageClass"])
def test_what_belongs_to_no_namespace_is_in_none(spill: bool) -> None:
    app = cdk8s.Testing.app()
    platform, ours = cdk8s.Chart(app, "platform", namespace="platform"), cdk8s.Chart(app, "ours", namespace="team")
    classes: Any = {"spill": "10Gi", "spill_storage_class": storage} if spill else {"priority_class": priority}
    classes = {keyword: made(platform) if callable(made) else made for keyword, made in classes.items()}
    DaskCluster(ours, "c", name="c", image=IMAGE, **classes)
    app.synth()
    assert len(list(Path(app.outdir).iterdir())) == 2


def test_what_exists_already_has_neither_order_nor_namespace() -> None:
    c = chart(namespace="team")
    given = plus.ServiceAccount.from_service_account_name(c, "a", "there", namespace_name="elsewhere")
    DaskCluster(c, "c", name="c", image=IMAGE, service_account=given)
    assert synth(c)[0]["spec"]["worker"]["spec"]["serviceAccountName"] == "there"


def test_a_namespace_that_is_stated_counts_rather_than_that_of_the_chart() -> None:
    c = chart(namespace="team")
    given = plus.Secret(c, "given", metadata={"name": "given", "namespace": "dask-operator"})
    DaskOperator(c, "operator", image_pull_secrets=[given])
    DaskCluster(c, "c", name="c", namespace="dask-operator", image=IMAGE, image_pull_secrets=[given])
    assert len([m for m in synth(c) if m["kind"] in ("Secret", "DaskCluster")]) == 2


def test_a_cluster_of_another_namespace_is_told_where_it_is_isolated_or_published() -> None:
    app = cdk8s.Testing.app()
    ours, theirs = cdk8s.Chart(app, "ours", namespace="team"), cdk8s.Chart(app, "theirs", namespace="platform")
    cluster = DaskCluster(theirs, "c", name="c", image=IMAGE)
    DaskExposure(ours, "e", cluster=cluster, host="dask.example.org")
    DaskWorkerGroup(ours, "g", cluster=cluster, image=IMAGE)
    assert errors(ours) == [
        "[ours/e] cluster: must be in the namespace 'team'; DaskCluster 'c' (theirs/c) is in 'platform'",
        "[ours/g] metadata.namespace: must be that of its cluster 'c' (platform), not 'team'",
    ]
