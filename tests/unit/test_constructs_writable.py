"""Text is refused exactly where a reader would get something else of what cdk8s writes; other data is made plain."""

from __future__ import annotations

from enum import Enum, StrEnum
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cdk8s import Yaml
from tests.support.constructs import IMAGE, JsonPatch, chart, errors, only

from dask_constructs import DaskCluster, DaskCronJob, Volume
from dask_constructs.writable import unwritable
from dask_synth.manifests import parse

BLANKS = ["".join(text) for length in range(1, 5) for text in product("a\t\n ", repeat=length)]
CHARACTERS = [f"a{chr(code)}b" for code in (*range(0x7F, 0xA2), *range(0x2026, 0x202B), *range(0xFFFC, 0x10002))]
WORDS = ["0o17", "0O17", "0X1F", "0x1F", "0B11", "0b11", "-0o7", "017", "08", "1e3", ".5", "1_0", "y", "N", "off"]
WORDS += ["~", "null", "=", "<<", "12:30", "0o8", "0X", "0o7a", "2026-01-01", ".inf", "---", "# a", "a: b", "\ufeffa"]


@pytest.mark.parametrize("texts", [BLANKS, CHARACTERS, WORDS], ids=["blanks", "characters", "words"])
def test_what_is_refused_is_what_would_be_read_otherwise(texts: list[str]) -> None:
    assert [text for text in texts if read_back(text) != text] == [text for text in texts if [*unwritable(text, "")]]


def read_back(text: str) -> object:
    manifest = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "spec": {"args": [text]}}
    found = parse("in.yaml", Yaml.stringify(manifest).encode())
    return found.manifests[0].value["spec"]["args"][0] if found.manifests else None


def test_volumes_and_patches_have_no_other_text_either() -> None:
    c = chart()
    DaskCluster(c, "volume", image=IMAGE, volumes={"/a": Volume({"hostPath": {"path": "/a\x7f"}})})
    DaskCluster(c, "patch", image=IMAGE).api_object.add_json_patch(JsonPatch.add("/metadata/labels", {"a": "0o7"}))
    of_scheduler, of_worker, of_patch = errors(c)
    assert of_scheduler.startswith("[test/volume] volumes: spec['scheduler']['spec']['volumes']")
    assert of_worker.endswith(r"has '\x7f', which cdk8s writes so that nobody can read the file")
    assert of_patch == "[test/patch] metadata['labels']['a']: would be read as a number: write '0o7' otherwise"


class Queue(str, Enum):  # noqa: UP042 - whose text is its name
    TEAM = "team-a"


class Size(StrEnum):
    LARGE = "4Gi"


def test_members_of_enumerations_stand_for_their_values() -> None:
    c = chart()
    DaskCluster(c, "c", image=IMAGE, name=Queue.TEAM, queue=Queue.TEAM, queue_priority=Queue.TEAM, memory=Size.LARGE)
    manifest = only(c)
    assert manifest["metadata"]["name"] == "team-a"
    assert set(manifest["metadata"]["labels"].values()) == {"team-a"}, "not 'Queue.TEAM'"
    assert manifest["spec"]["worker"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "4Gi"


TOLERATION = {"key": "gpu", "operator": "Exists"}


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: {**pod, "tolerations": (TOLERATION,)},
        lambda pod: MappingProxyType({**pod, "tolerations": [MappingProxyType(TOLERATION)]}),
        MappingProxyType({"tolerations": (MappingProxyType(TOLERATION),)}),
    ],
    ids=["tuple", "function", "mapping"],
)
def test_changes_may_be_of_whatever_is_a_list_or_a_mapping(change: Any) -> None:
    c = chart()
    cluster = DaskCluster(c, "c", image=IMAGE, worker_pod=change)
    cluster.scheduler.change(change)
    spec = only(c)["spec"]
    assert spec["worker"]["spec"]["tolerations"] == spec["scheduler"]["spec"]["tolerations"] == [TOLERATION]
    again = chart()
    DaskCluster.from_spec(again, "c", spec=MappingProxyType({**spec, "worker": MappingProxyType(spec["worker"])}))
    assert only(again)["spec"] == spec


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Path("a"), "must be text, a number, a list or a mapping, not PosixPath('a')"),
        (b"a", "must be text, a number, a list or a mapping, not b'a'"),
        ((each for each in "a"), "must be text, a number, a list or a mapping, not <generator"),
        ("\ud800", "has half a character"),
    ],
)
def test_what_a_function_makes_of_a_pod_is_told_by_its_keyword_if_it_is_no_data(value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=r"^worker_pod\['hostname'\]: ") as failure:
        DaskCluster(chart(), "c", image=IMAGE, worker_pod=lambda pod: {**pod, "hostname": value})
    assert told in str(failure.value)
    with pytest.raises(ValueError, match=r"^spec\['worker'\]: "):
        DaskCronJob.from_spec(chart(), "c", spec={"worker": value}, schedule="@daily")
