from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import NamedTuple

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.virtual_time import virtual_time

from dask_controller.kube.metrics import Metrics, sparing
from dask_controller.kube.workqueue import Queue


class Key(NamedTuple):
    kind: str
    name: str


def shown(metrics: Metrics) -> dict[str, float]:
    """Samples as "name{label=value}"."""
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    samples = [sample for family in families for sample in family.samples]
    return {f"{s.name}{{{','.join(f'{k}={v}' for k, v in sorted(s.labels.items()))}}}": s.value for s in samples}


@virtual_time
async def test_it_shows_what_dashboards_for_controllers_expect() -> None:
    metrics = Metrics("dask_operator")
    queue: Queue[Key] = Queue(on_done=metrics.reconciled)
    informer = SimpleNamespace(store={"a": 1, "b": 2}, relists=3, age_seconds=lambda: 4.0)
    metrics.observe(queue, {"pods": informer}, lambda: True)  # type: ignore[dict-item]
    metrics.requested("patch", "daskclusters/status", 409)

    async def reconcile(key: Key) -> float | None:
        await asyncio.sleep(2)
        if key.name == "bad":
            raise ValueError
        return None

    queue.add(Key("DaskCluster", "good"))
    queue.add(Key("DaskJob", "bad"))
    working = asyncio.create_task(queue.run(reconcile, workers=1))
    await asyncio.sleep(1)
    samples = shown(metrics)
    assert samples["workqueue_depth{}"] == 1
    assert samples["workqueue_oldest_seconds{}"] == 1
    assert samples["workqueue_longest_running_processor_seconds{}"] == 1
    assert samples["controller_runtime_active_workers{}"] == 1
    await asyncio.sleep(3.1)
    working.cancel()
    samples = shown(metrics)
    assert samples["controller_runtime_reconcile_total{controller=daskcluster,result=success}"] == 1
    assert samples["controller_runtime_reconcile_total{controller=daskjob,result=error}"] == 1
    assert samples["controller_runtime_reconcile_errors_total{controller=daskjob}"] == 1
    assert samples["controller_runtime_reconcile_time_seconds_sum{controller=daskjob}"] == 2
    assert samples["workqueue_queue_duration_seconds_sum{}"] == 2
    assert samples["workqueue_retries_total{}"] == 1
    assert samples["rest_client_requests_total{code=409,resource=daskclusters/status,verb=patch}"] == 1
    assert samples["leader_election_master_status{}"] == 1
    assert samples["dask_operator_informer_objects{resource=pods}"] == 2
    assert samples["dask_operator_informer_relists_total{resource=pods}"] == 3
    assert samples["dask_operator_informer_age_seconds{resource=pods}"] == 4


@virtual_time
async def test_what_is_dear_to_render_is_rendered_at_most_once_in_so_many_seconds() -> None:
    numbers = iter(range(100))
    render = sparing(lambda: b"%d" % next(numbers), 1.0)
    said = []
    for _ in range(6):
        said.append(render())
        await asyncio.sleep(0.4)
    assert said == [b"0", b"0", b"0", b"1", b"1", b"1"]
