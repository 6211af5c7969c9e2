"""Manifests of our kinds, right and wrong, drawn from the schemas: a valid one, changed in a few places.

A manifest that is drawn freely is nearly always wrong in many places, and says little. So each change is of one field,
whose neighbours are as the schema wants them, and its value is one that people and machines do write: extremes, other
types, nothing, much, and words that Kubernetes knows elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from hypothesis import strategies as st

from dask_crds.kubernetes import structural_schema
from dask_crds.schema import structural

Path = tuple[str | int, ...]

POD: dict[str, Any] = {
    "containers": [
        {
            "name": "main",
            "image": "dask",
            "env": [{"name": "A", "value": "1"}],
            "ports": [{"name": "http", "containerPort": 80}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}},
        }
    ],
    "volumes": [{"name": "data", "emptyDir": {}}],
}
CLUSTER: dict[str, Any] = {"scheduler": {"spec": POD}, "worker": {"spec": POD}}
SPECS: dict[str, dict[str, Any]] = {
    "DaskCluster": CLUSTER,
    "DaskWorkerGroup": {"cluster": "drawn", "worker": {"spec": POD}},
    "DaskJob": {"cluster": {"spec": CLUSTER}, "job": {"spec": POD}},
    "DaskAutoscaler": {"cluster": "drawn"},
}
_WORDS = """
Always Never OnFailure IfNotPresent TCP UDP SCTP HTTP HTTPS ClusterFirst ClusterFirstWithHostNet Default None
RuntimeDefault Localhost Unconfined Unmasked Exists Equal In NotIn Gt Lt DoesNotExist NoSchedule NoExecute
PreferNoSchedule DoNotSchedule ScheduleAnyway Honor Ignore Memory HugePages HugePages-2Mi Directory DirectoryOrCreate
File FileOrCreate Socket CharDevice BlockDevice HostToContainer Bidirectional Enabled Disabled IfPossible File
FallbackToLogsOnError metadata.name metadata.labels['a'] spec.nodeName status.podIP metadata.annotations limits.cpu
requests.memory limits.memory cpu memory nvidia.com/gpu ephemeral-storage hugepages-2Mi linux windows Restart
RestartContainer RestartAllContainers NotRequired Merge Strict OnRootMismatch MountOption Recursive SIGTERM SIGKILL
ReadWriteOnce ReadOnlyMany ReadWriteMany ReadWriteOncePod Filesystem Block PreemptLowerPriority ECDSAP256 RSA3072
ClusterIP NodePort LoadBalancer ExternalName Local Cluster ClientIP IPv4 IPv6 SingleStack PreferDualStack
RequireDualStack PreferClose PreferSameZone Recreate RollingUpdate OnDelete Block Allow Delete Suspend Pods Percent
Max Min OnSuccess FailJob Count RestartJob Fail Warn Enforce ALL NET_ADMIN main data http scheduler
kubernetes.io/hostname kubernetes.io/os metadata.namespace KEY A $(A) 10.0.0.1 ::1 10.0.0.0/8 127.0.0.1 example.com
tcp-comm drawn true mode Exec v1 v2 ReadOnly ReadWrite Shared Dedicated Managed
""".split()  # noqa: SIM905
_TEXTS = [
    "", "a", "A", "a.b", "-a", "a-", "a_b", "a b", "ä", "/", "/a", "a/b", "../a", "/a/../b", "a:b", "=", "a=b", "1",
    "0", "-1", "1.5", "1e3", "500m", "1Gi", "10%", "25 %", "a/b/c", "a.b/c", "A.b/c", "a" * 63, "a" * 64, "a" * 15,
    "a" * 16, "a" * 253, "a" * 254, "x\ny", "\x00", "\u2028", "🦄", "null", "nodes", " ", "-", ".", "..", "*",
]  # fmt: skip
_TIMES = [
    "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+01:00", "2026-01-31T12:00:00", "2026-02-30T12:00:00Z", "2026-01-31",
    "2026-01-31 12:00:00Z", "2026-01-31T12:00:60Z", "2026-01-31T12:00Z", "2026-01-31T24:00:00Z",
]  # fmt: skip
_INTEGERS = [-1, 0, 1, 2, 10, 80, 511, 512, 3600, 65535, 65536, 200_000, 200_001, 2**31 - 1, 2**31, -(2**31), 2**63 - 1]
#: What a required text is, where the schema does not say more than that it is a text.
_FILLING: dict[str, Any] = {
    "mountPath": "/elsewhere", "devicePath": "/dev/x", "path": "elsewhere", "fieldPath": "metadata.name",
    "operator": "In", "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "type": "Ready",
    "resource": "limits.cpu", "ip": "10.0.0.1", "restartPolicy": "NotRequired", "action": "Restart",
    "keyType": "ECDSAP256", "status": "True", "resourceName": "cpu", "signerName": "example.com/signer",
    "image": "dask", "values": ["1"], "name": "other", "containerPort": 81, "port": 81, "weight": 1, "maxSkew": 1,
    "seconds": 1, "priority": 1, "lun": 1, "value": 1, "periodSeconds": 60, "mode": 0o644,
}  # fmt: skip


# --- the schema -------------------------------------------------------------------------------------------------------


@cache
def nodes(kind: str) -> tuple[tuple[Path, dict[str, Any]], ...]:
    """All places of a manifest's ``spec`` with their schemas; of lists the first member stands for all."""
    return tuple(_nodes(("spec",), structural(kind)["properties"]["spec"]))


def _nodes(path: Path, schema: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name, child in schema.get("properties", {}).items():
        yield (*path, name), child
        yield from _nodes((*path, name), child)
    if isinstance(schema.get("items"), dict):
        yield (*path, 0), schema["items"]
        yield from _nodes((*path, 0), schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        yield (*path, "cpu"), schema["additionalProperties"]


def filling(name: str, schema: Mapping[str, Any]) -> Any:
    """The least value that a schema allows."""
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("x-kubernetes-int-or-string"):
        return _FILLING.get(name, 1)
    match schema["type"]:
        case "object":
            children = schema.get("properties", {})
            return {field: filling(field, children[field]) for field in schema.get("required", ())}
        case "array":
            return [filling(name, schema["items"])]
        case "string":
            found = _FILLING.get(name)
            return found if isinstance(found, str) else "other"
        case "boolean":
            return True
        case _:
            found = _FILLING.get(name)
            return found if isinstance(found, int) else schema.get("minimum", 1)


# --- values -----------------------------------------------------------------------------------------------------------

_ANYTHING = st.sampled_from([None, "", "a", 0, 1, -1, 1.5, True, [], {}, [None], [""], {"a": "b"}, {"a": None}, [{}]])
_TEXT = st.one_of(st.sampled_from(_WORDS), st.sampled_from(_WORDS), st.sampled_from(_TEXTS), st.text(max_size=20))
_INTEGER = st.one_of(st.sampled_from(_INTEGERS), st.integers(0, 99), st.integers(-(2**63), 2**63 - 1))
_AMOUNT = st.one_of(
    st.sampled_from(["1", "0", "500m", "1.5", "1Gi", "-1", "1e3", ".5", "1n", "+1", "1K", "1k", "1E", "9E9"]), _TEXT
)
_KEY = st.one_of(
    st.sampled_from(["cpu", "memory", "a", "a/b", "nvidia.com/gpu", "example.com/a_b", "kubernetes.io/os"]), _TEXT
)


@cache
def values(name: str, kind: str, path: Path) -> st.SearchStrategy[Any]:
    """Values for a place, most of the right type."""
    schema = dict(nodes(kind))[path]
    return st.one_of(*[_typed(name, schema)] * 5, _ANYTHING)


def _typed(name: str, schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if schema.get("x-kubernetes-int-or-string"):
        return st.one_of(_AMOUNT, _INTEGER, st.floats(allow_nan=False, allow_infinity=False))
    match schema["type"]:
        case "object" if "properties" in schema:
            return _objects(name, schema)
        case "object":
            child = _typed(name, schema["additionalProperties"]) if schema.get("additionalProperties") else _TEXT
            return st.dictionaries(_KEY, child, max_size=3)
        case "array":
            return st.lists(_typed(name, schema["items"]), max_size=3)
        case "boolean":
            return st.booleans()
        case "integer":
            return _INTEGER
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False)
        case _ if schema.get("format") == "date-time":
            return st.one_of(_TEXT, st.sampled_from(_TIMES))
        case _:
            return st.one_of(_TEXT, st.sampled_from(schema.get("enum") or ["a"]))


@cache
def _cached_fields(names: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), max_size=3, unique=True)


@st.composite
def _objects(draw: st.DrawFn, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object with what is required, and a few other fields."""
    made = filling(name, schema)
    children = schema["properties"]
    if children:
        for field in draw(_cached_fields(tuple(children))):
            made[field] = (
                draw(_typed(field, children[field])) if draw(st.booleans()) else filling(field, children[field])
            )
    return made


# --- manifests --------------------------------------------------------------------------------------------------------


def placed(manifest: dict[str, Any], kind: str, path: Path, value: Any) -> dict[str, Any]:
    """A copy of the manifest with ``value`` at ``path``; what is missing on the way is filled in."""
    manifest = copy.deepcopy(manifest)
    schemas = dict(nodes(kind))
    here: Any = manifest
    for at in range(1, len(path) + 1):
        step = path[at - 1]
        if at == len(path):
            if isinstance(here, list):
                here[:1] = [value]
            else:
                here[step] = value
            return manifest
        child = schemas.get(path[:at])
        if isinstance(here, list):
            here = here[0]
            continue
        if not isinstance(here.get(step), dict | list) or here[step] in ([], {}):
            here[step] = filling(str(step), child or {"type": "object"})
        here = here[step]
    return manifest


_METADATA: dict[str, st.SearchStrategy[Any]] = {
    **{
        field: st.one_of(*[_typed(field, schema)] * 5, _ANYTHING)
        for field, schema in structural_schema("ObjectMeta")["properties"].items()
    },
    "name": st.one_of(st.just("drawn"), _TEXT, _ANYTHING),
    "labels": st.one_of(_ANYTHING, st.dictionaries(_KEY, _TEXT, max_size=3)),
    "annotations": st.one_of(_ANYTHING, st.dictionaries(_KEY, _TEXT, max_size=3)),
    "namespace": st.one_of(st.just("default"), _TEXT, _ANYTHING),
}


@st.composite
def metadata(draw: st.DrawFn) -> dict[str, Any]:
    """An object's metadata with a few fields right or wrong; where there are more, one is nearly always wrong."""
    made: dict[str, Any] = {"name": "drawn"}
    for field in draw(st.lists(st.sampled_from(sorted(_METADATA)), min_size=1, max_size=3, unique=True)):
        made[field] = draw(_METADATA[field])
    if draw(st.integers(0, 9)) == 0:
        made.pop("name")
    return made


@st.composite
def manifests(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """A manifest of a kind, right or wrong."""
    manifest: dict[str, Any] = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": kind,
        "metadata": {"name": "drawn"},
        "spec": copy.deepcopy(SPECS[kind]),
    }
    if draw(st.integers(0, 9)) == 0:
        manifest["metadata"] = draw(metadata())
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        path, _schema = draw(st.sampled_from(nodes(kind)))
        name = next((str(step) for step in reversed(path) if isinstance(step, str)), "")
        try:
            manifest = placed(manifest, kind, path, draw(values(name, kind, path)))
        except (TypeError, AttributeError, KeyError, IndexError):
            continue  # the place has gone with an earlier change
        if draw(st.integers(0, 19)) == 0:
            manifest = _bent(draw, manifest, path)
    return manifest


def _bent(draw: st.DrawFn, manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    """The manifest with a field on the way dropped or renamed, or a member of a list repeated."""
    path = path[: draw(st.integers(2, len(path))) if len(path) > 2 else len(path)]
    here: Any = manifest
    for step in path[:-1]:
        here = here[step]
    if isinstance(here, list):
        here.append(copy.deepcopy(here[0]))
    elif draw(st.booleans()):
        here.pop(path[-1], None)
    elif path[-1] in here:
        here[f"{path[-1]}s"] = here.pop(path[-1])
    return manifest
