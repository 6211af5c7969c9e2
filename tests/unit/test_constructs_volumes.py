"""What is mounted where, by name."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.constructs import IMAGE, chart, container, errors, only, synth

from dask_constructs import DaskCluster, Volume
from dask_constructs.volumes import mounted
from dask_crds.kubernetes import PodSpec

import cdk8s  # isort: skip - after dask_constructs, which finds Node.js for it

import cdk8s_plus_34 as plus  # isort: skip


def worker(**options: Any) -> dict[str, Any]:
    c = chart()
    DaskCluster(c, "c", image=IMAGE, **options)
    return only(c)["spec"]["worker"]["spec"]  # type: ignore[no-any-return]


def source(pod: dict[str, Any], path: str) -> dict[str, Any]:
    """What is mounted at a path, without its name."""
    (name,) = [mount["name"] for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == path]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == name]
    return {field: value for field, value in volume.items() if field != "name"}


@pytest.mark.parametrize(
    ("volume", "written"),
    [
        (Volume.claim("d"), {"persistentVolumeClaim": {"claimName": "d"}}),
        (Volume.secret("s"), {"secret": {"secretName": "s"}}),
        (Volume.config_map("m"), {"configMap": {"name": "m"}}),
        (Volume.image("r/p:1"), {"image": {"reference": "r/p:1"}}),
        (Volume.scratch("10Gi"), {"emptyDir": {"sizeLimit": "10Gi"}}),
        (Volume.scratch(cdk8s.Size.gibibytes(10)), {"emptyDir": {"sizeLimit": "10Gi"}}),
        (Volume.in_memory("1Gi"), {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}),
        ({"nfs": {"server": "s", "path": "/x"}}, {"nfs": {"server": "s", "path": "/x"}}),
        ({"csi": {"driver": "d", "readOnly": True}}, {"csi": {"driver": "d", "readOnly": True}}),
        (
            Volume.scratch("10Gi", storage_class="fast"),
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "storageClassName": "fast",
                            "resources": {"requests": {"storage": "10Gi"}},
                        }
                    }
                }
            },
        ),
    ],
)
def test_volumes(volume: Any, written: dict[str, Any]) -> None:
    assert source(worker(volumes={"/data": volume}), "/data") == written


def test_objects_of_cdk8s_plus_are_mounted() -> None:
    c = chart()
    claim = plus.PersistentVolumeClaim(c, "p", metadata={"name": "p"})
    secret, settings = plus.Secret(c, "s", metadata={"name": "s"}), plus.ConfigMap(c, "m", metadata={"name": "m"})
    volumes: Any = {"/p": claim, "/s": secret, "/m": settings, "/ro": Volume.claim(claim, read_only=True, sub_path="a")}
    DaskCluster(c, "c", image=IMAGE, volumes=volumes)
    manifest = synth(c)[-1]
    pod = manifest["spec"]["worker"]["spec"]
    assert source(pod, "/p") == source(pod, "/ro") == {"persistentVolumeClaim": {"claimName": "p"}}
    assert source(pod, "/s") == {"secret": {"secretName": "s"}}
    assert source(pod, "/m") == {"configMap": {"name": "m"}}
    mounts = container(manifest, "worker")["volumeMounts"]
    assert {"name": "ro", "mountPath": "/ro", "readOnly": True, "subPath": "a"} in mounts


def test_a_mount_takes_the_place_of_what_was_there() -> None:
    """(constructs finding 4) A claim at /tmp kept its emptyDir beside it."""
    pod = worker(volumes={"/tmp": Volume.claim("big")})
    assert pod["volumes"] == [{"name": "tmp", "persistentVolumeClaim": {"claimName": "big"}}]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


def test_volumes_have_names_of_their_own_unless_they_are_named_alike() -> None:
    pod = worker(volumes={"/a/b": Volume.claim("x"), "/a-b": Volume.claim("y"), "/A_b/": Volume.claim("z")})
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp", "a-b", "a-b-1", "a-b-2"]
    shared: dict[str, Any] = {"name": "d", "persistentVolumeClaim": {"claimName": "x"}}
    pod = worker(volumes={"/x": Volume(shared, sub_path="x"), "/y": Volume(shared, sub_path="y")})
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp", "d"]


def test_two_volumes_of_one_name_are_told() -> None:
    c = chart()
    DaskCluster(c, "c", image=IMAGE, worker={"volumes": {"/d": {"name": "tmp", "emptyDir": {"medium": "Memory"}}}})
    assert errors(c) == ["[test/c] worker: spec.worker.spec.volumes[1]: name 'tmp' is used twice"]


def test_a_volume_that_others_mount_stays() -> None:
    sidecar: Any = {"name": "logs", "image": "x", "volumeMounts": [{"name": "tmp", "mountPath": "/logs"}]}
    main: Any = {"name": "worker", "image": "x", "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}
    pod: PodSpec = {"containers": [main, sidecar], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    changed: Any = mounted(pod, "worker", "/tmp", Volume.claim("c"))
    assert [volume["name"] for volume in changed["volumes"]] == ["tmp", "tmp-1"]
    assert changed["containers"][0]["volumeMounts"] == [{"name": "tmp-1", "mountPath": "/tmp"}]
    assert pod["containers"][0].get("volumeMounts") == [{"name": "tmp", "mountPath": "/tmp"}], "not changed itself"


@pytest.mark.parametrize("storage_class", [None, "fast"])
def test_workers_spill_to_a_disk_of_their_own(storage_class: str | None) -> None:
    pod = worker(spill="100Gi", spill_storage_class=storage_class, processes=2, cores=2)
    main = pod["containers"][0]
    assert main["args"][main["args"].index("--local-directory") + 1] == "/spill"
    assert ("ephemeral" if storage_class else "emptyDir") in source(pod, "/spill")
    env = {variable["name"]: variable["value"] for variable in main["env"]}
    share = int(env["DASK_DISTRIBUTED__WORKER__MEMORY__MAX_SPILL"])
    assert 0.9 * 50 * 2**30 < share < 50 * 2**30, "both together stay below the disk's size"
    assert main["resources"]["requests"].get("ephemeral-storage") == (None if storage_class else "100Gi")
    assert "ephemeral-storage" not in main["resources"]["limits"]


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({"volumes": {"data": Volume.claim("x")}}, "volumes: a key must be an absolute path, not 'data'"),
        ({"volumes": {"/a:b": Volume.claim("x")}}, "volumes: a key must be an absolute path, not '/a:b'"),
        (
            {"volumes": {"/d": "x"}},
            "volumes['/d']: must be a Volume, or a mapping as {'nfs': {...}}, not 'x'; a claim is",
        ),
        ({"volumes": {"/d": {"nfz": {}}}}, "volumes['/d'].nfz: unknown field, did you mean 'nfs'?"),
        ({"volumes": {"/d": Volume.scratch("10Gb")}}, "volumes['/d']: '10Gb' is not a Kubernetes quantity"),
        ({"volumes": {"/d": {"emptyDir": {"sizeLimit": 5}}}}, "volumes['/d']: 5 is 5 bytes; gibibytes are written"),
        ({"volumes": {"/d": Volume.scratch("1Gi", storage_class=3)}}, "volumes['/d'].ephemeral"),  # type: ignore[arg-type]
        ({"volumes": {"/d": Volume("x")}}, "volumes['/d']: must be a Volume, or a mapping as"),  # type: ignore[arg-type]
        ({"volumes": {"/d": Volume.claim("x"), "/e": 3}}, "volumes['/e']: must be a Volume, or a mapping as"),
        ({"spill": "100"}, "spill: '100' is 100 bytes"),
        ({"spill_storage_class": "fast"}, "spill_storage_class: says nothing without spill"),
    ],
)
def test_a_wrong_value_is_told_with_its_keyword(options: dict[str, Any], mistake: str) -> None:
    c = chart()
    DaskCluster(c, "c", image=IMAGE, **options)
    (found,) = errors(c)
    assert found.startswith(f"[test/c] {mistake}")
