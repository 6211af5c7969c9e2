"""Places in line that Kueue tells, or does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.states import metadata

from dask_controller.core.limits import TOLD
from dask_controller.core.queue import Queued
from dask_controller.core.queue_status import admitted
from dask_controller.core.queue_workload import Workload, workload
from dask_controller.kube.api import ApiError
from dask_controller.shell.positions import LOOK_SECONDS, UNANSWERED_SECONDS, Positions


class Kueue:
    """Answers, or raises, by LocalQueue; and what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, list[tuple[Any, ...]]()

    async def get(self, kind: str, namespace: str, name: str, *, subresource: str, query: Mapping[str, str]) -> Any:
        self.asked.append((kind, namespace, name, subresource, query["limit"]))
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        return answer


def pending(**positions: Any) -> dict[str, Any]:
    return {"items": [{"metadata": {"name": n}, "positionInClusterQueue": at} for n, at in positions.items()]}


def waiting(name: str, queue: str = "team", **conditions: str) -> Workload:
    stated = [{"type": t, "status": s, "message": f"words of {t}"} for t, s in conditions.items()]
    return workload({"metadata": metadata(name), "spec": {"queueName": queue}, "status": {"conditions": stated}})


async def test_each_queue_is_asked_once_and_who_has_another_place_is_woken() -> None:
    kueue = Kueue(team=pending(a=0, b=7), other=pending(c=2))
    positions = Positions(kueue)  # type: ignore[arg-type]
    a, b, c = waiting("a"), waiting("b"), waiting("c", "other")
    assert await positions.look([a, b, c]) == ([a, b, c], LOOK_SECONDS)
    assert [positions.of(each) for each in (a, b, c)] == [0, TOLD, 2]
    asked = [("LocalQueue", "team", queue, "pendingworkloads", str(TOLD)) for queue in ("other", "team")]
    assert kueue.asked == asked
    kueue.answers["team"] = pending(a=0, b=6)
    assert await positions.look([a, b, c]) == ([], LOOK_SECONDS), "what is told of it is the same"
    kueue.answers["team"] = pending(b=0)
    assert (await positions.look([b, c]))[0] == [b]
    assert positions.of(a) is None, "it is in line no more, so nothing is kept of it"


async def test_nobody_is_asked_where_nothing_waits() -> None:
    kueue = Kueue()
    assert await Positions(kueue).look([]) == ([], LOOK_SECONDS)  # type: ignore[arg-type]
    assert kueue.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        None,  # 404
        ApiError(403, "Forbidden", "no"),
        ApiError(503, "ServiceUnavailable", "down"),
        {"items": 7},
        {"items": [{"metadata": {}, "positionInClusterQueue": 0}]},
        {"items": [{"metadata": {"name": "a"}, "positionInClusterQueue": "first"}]},
    ],
)
async def test_where_nobody_answers_as_agreed_there_is_no_place_and_it_is_asked_less(answer: Any) -> None:
    positions = Positions(Kueue(team=answer))  # type: ignore[arg-type]
    assert await positions.look([waiting("a")]) == ([], UNANSWERED_SECONDS)
    assert positions.of(waiting("a")) is None


async def test_of_a_long_answer_no_more_is_read_than_was_asked_for() -> None:
    positions = Positions(Kueue(team=pending(**{f"w{n}": n for n in range(999)}, x=-1)))  # type: ignore[arg-type]
    there = [waiting(f"w{n}") for n in range(999)]
    assert (await positions.look(there))[0] == there[:TOLD]


@pytest.mark.parametrize(
    ("position", "said"),
    [
        (None, ""),
        (0, "; next in line of its ClusterQueue"),
        (5, "; more than 5 are before it in line of its ClusterQueue"),
    ],
)
def test_the_place_stands_behind_kueues_words(position: int | None, said: str) -> None:
    of = waiting("a", QuotaReserved="False")
    queued = Queued(name="team", base=of, position=position)
    (condition,) = admitted(queued)
    assert condition.message == f"LocalQueue team: words of QuotaReserved{said}"
