"""Executing a plan step by step: what takes long is left for later (controller finding 22)."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.states import NOW, group
from tests.support.virtual_time import now, virtual_time

from dask_controller.core.actions import STEP, Create, Delete, Plan
from dask_controller.shell.courtesy import Courtesy
from dask_controller.shell.execute import STEP_SECONDS, TERMINATING_SECONDS, Executor
from dask_controller.shell.kubernetes import NAMESPACE_TERMINATING, ApiError
from dask_controller.shell.reconcile import _next_look


class _Server:
    """Takes its time with every write."""

    def __init__(self, seconds: float, error: ApiError | None = None) -> None:
        self.seconds, self.error, self.writes = seconds, error, 0

    async def create(self, manifest: Any) -> Any:
        self.writes += 1
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        return manifest

    async def delete(self, *_: Any, **__: Any) -> None:
        await self.create(None)


class _World:
    class pods:
        put = staticmethod(lambda manifest: None)


def executor(server: _Server) -> Executor:
    return Executor(server, _World, domain="x", share=2, courtesy=Courtesy())  # type: ignore[arg-type]


CREATIONS = tuple(Create(group(), ordinal) for ordinal in range(STEP))
DELETIONS = tuple(Delete("Pod", "team", f"p{n}", f"u{n}") for n in range(STEP))


@virtual_time
async def test_a_plan_begins_nothing_more_when_its_time_is_up() -> None:
    for actions in (CREATIONS, DELETIONS, DELETIONS[:100] + CREATIONS[:100]):
        server, began = _Server(0.1), now()
        outcomes = await executor(server).execute(group(), actions, NOW)
        assert now() - began <= STEP_SECONDS + 0.2
        assert 10 <= len(outcomes) == server.writes < 30
        assert _next_look(Plan(actions=actions, requeue_after=60), outcomes) == 0.0, "the rest follows at once"


@virtual_time
async def test_a_full_plan_is_followed_by_another_look_at_once() -> None:
    outcomes = await executor(_Server(0.001)).execute(group(), CREATIONS, NOW)
    assert len(outcomes) == STEP
    assert _next_look(Plan(actions=CREATIONS), outcomes) == 0.0
    assert _next_look(Plan(actions=CREATIONS[:5], requeue_after=7), outcomes[:5]) == 7


@virtual_time
async def test_an_exhausted_quota_costs_one_request_and_no_haste() -> None:
    server = _Server(0.001, ApiError(403, "Forbidden", "exceeded quota"))
    outcomes = await executor(server).execute(group(replicas=100_000), CREATIONS, NOW)
    assert len(outcomes) == 1
    assert _next_look(Plan(actions=CREATIONS), outcomes) == 30


@virtual_time
async def test_in_a_namespace_that_goes_nothing_more_is_tried_for_a_while() -> None:
    """Each child that goes wakes its parent: with 1,000 clusters that was thousands of refused requests."""
    server = _Server(0.001, ApiError(403, NAMESPACE_TERMINATING, "because it is being terminated"))
    e = executor(server)
    assert not e.is_terminating("team")
    await e.execute(group(), CREATIONS, NOW)
    assert (e.is_terminating("team"), e.is_terminating("other")) == (True, False)
    await asyncio.sleep(TERMINATING_SECONDS)
    assert not e.is_terminating("team"), "there may be another one of that name"
