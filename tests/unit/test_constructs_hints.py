"""What is said of keywords that do not exist (constructs finding 12)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.constructs import IMAGE, chart

from dask_constructs import DaskJob
from dask_constructs.hints import _KNOWN, hint_for
from dask_constructs.job import JobProps


@pytest.mark.parametrize(
    ("keyword", "hint"),
    [
        ("replicas", "; write workers"),
        ("n_workers", "; write workers"),
        ("nworkers", "; write processes (in each Pod), or workers (Pods)"),
        ("resources", "; write cores, memory and gpus, or worker_resources (of Dask)"),
        ("extra_pod_config", "; write worker_pod, scheduler_pod"),
        ("worker_extra_pod_config", "; write worker_pod"),
        ("scheduler_extra_container_config", "; write scheduler_pod"),
        ("worker_cores", "; write cores"),
        ("worker_memory_limit", "; write memory"),
        ("scheduler_service_type", "; write service_type"),
        ("update_strategy", "; write worker_update, scheduler_update"),
        ("worker_node_selector", "; write worker={'node_selector': ...}"),
        ("scheduler_tolerations", "; write scheduler={'tolerations': ...}"),
        ("nodeSelector", "; did you mean 'node_selector'?"),
        ("imagePullSecrets", "; did you mean 'image_pull_secrets'?"),
        ("adaptive", "; write .autoscale(minimum=..., maximum=...)"),
        ("tolerationz", "; did you mean 'tolerations'?"),
        ("xyzzy", ""),
    ],
)
def test_what_was_meant(keyword: str, hint: str) -> None:
    wrong: Any = {keyword: 1}
    with pytest.raises(TypeError) as caught:
        DaskJob(chart(), "j", image=IMAGE, command=["true"], **wrong)
    assert str(caught.value) == f"unexpected keyword argument {keyword!r}{hint}"


def test_no_hint_is_for_a_keyword_that_exists_or_to_one_that_does_not() -> None:
    known = JobProps.__annotations__ | dict.fromkeys(["scale_up_policies", "scale_down_policies"])
    assert not _KNOWN.keys() & known.keys()
    assert [name for name in _KNOWN if not hint_for(name, known).startswith("; write")] == []


def test_a_hint_is_to_something_that_this_construct_takes() -> None:
    assert hint_for("replicas", ["minimum"]) == ""
