"""What Pods have used: told by status and the Pods alone, whoever looks and however often."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.states import NOW, group, worker_pod

from dask_controller.core.pod import pod
from dask_controller.core.requests import Requests, requests_of
from dask_controller.core.time import time_or
from dask_controller.core.usage import ACCOUNT_SECONDS, START_SECONDS, Stay, stay, used, with_usage
from dask_controller.shell.departed import GONE_SECONDS, MOST_GONE, Departed
from dask_crds.model import DaskWorkerGroupStatus, Usage

ONE = Requests(2.0, 2.0**30, 1.0)


def asking(**requests: str) -> dict[str, Any]:
    return {"resources": {"requests": {key.replace("_", "/"): value for key, value in requests.items()}}}


# --- requests ---------------------------------------------------------------------------------------------------------


def test_containers_and_sidecars_add_up_and_init_containers_come_before() -> None:
    spec = {
        "containers": [asking(cpu="500m", memory="1Gi"), asking(cpu="1")],
        "initContainers": [asking(cpu="4"), {**asking(cpu="250m", memory="1Gi"), "restartPolicy": "Always"}],
        "overhead": {"cpu": "100m"},
    }
    assert requests_of(spec) == Requests(4.1, 2 * 2.0**30)
    del spec["initContainers"][0]  # type: ignore[attr-defined]
    assert requests_of(spec) == Requests(1.85, 2 * 2.0**30)


def test_what_a_pod_states_as_a_whole_counts() -> None:
    assert requests_of({"containers": [asking(cpu="1", memory="1Ki")], **asking(cpu="3")}) == Requests(3.0, 1024.0)


@pytest.mark.parametrize("name", ["nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/xe", "nvidia.com/mig-1g.5gb"])
def test_gpus_by_their_names(name: str) -> None:
    assert requests_of({"containers": [{"resources": {"requests": {name: "2", "x.org/gpus": 1}}}]}).gpu == 2


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"containers": None},
        {"containers": "x"},
        {"containers": [None, {"resources": 1}, {"resources": {"requests": [1]}}]},
        {"containers": [asking(cpu="many", memory="-1"), {"resources": {"requests": {"cpu": ["1"]}}}]},
        {"containers": [{}], "initContainers": {"a": 1}, "overhead": "x", "resources": []},
    ],
)
def test_nonsense_requests_nothing(spec: dict[str, Any]) -> None:
    assert requests_of(spec) == Requests()


def test_a_pods_requests_are_read_once_for_all_that_are_the_same() -> None:
    def read() -> Requests:
        return pod(
            {
                "metadata": {"name": "a", "namespace": "b", "uid": "c", "resourceVersion": "1"},
                "spec": {"containers": [asking(cpu="3")]},
            }
        ).requests

    assert read() == Requests(3.0)
    assert read() is read()


# --- stays ------------------------------------------------------------------------------------------------------------


def at(started: float | None, ended: float | None = None, **fields: Any) -> Stay:
    defaults: dict[str, Any] = {"uid": "u", "requests": ONE, "created": NOW - 10_000}
    return Stay(**(defaults | {"started": started, "ended": ended} | fields))


def test_a_pod_counts_from_its_start_to_its_end() -> None:
    g = group()
    running = stay(worker_pod(g, 0, started=NOW - 50, created=NOW - 60))
    assert running.seconds(0, NOW) == 50
    assert running.seconds(NOW - 20, NOW) == 20
    assert stay(worker_pod(g, 0, started=None)).seconds(0, NOW) == 0
    ended = worker_pod(g, 0, phase="Succeeded", started=NOW - 50, finished=NOW - 30, created=NOW - 60)
    assert stay(ended).seconds(0, NOW) == stay(ended, NOW).seconds(0, NOW) == 20
    assert stay(worker_pod(g, 0, started=NOW - 50, created=NOW - 60), NOW - 5).seconds(0, NOW) == 45


def test_between_two_starts_of_its_container_a_pod_still_has_what_it_requests() -> None:
    assert stay(worker_pod(group(), 0, started=NOW - 50, finished=NOW - 30)).seconds(0, NOW) == 50


def test_the_clock_of_a_node_cannot_make_more_of_it() -> None:
    assert at(NOW - 9999, created=NOW - 10).seconds(0, NOW) == 10
    assert at(NOW + 500, created=NOW - 10).seconds(0, NOW) == 0
    assert at(NOW - 10, NOW + 500).seconds(0, NOW) == 10


# --- accounts ---------------------------------------------------------------------------------------------------------


def status(usage: Usage | None = None, **fields: Any) -> DaskWorkerGroupStatus:
    return DaskWorkerGroupStatus(usage=usage, **fields)


def account(stays: list[Stay], now: float, usage: Usage | None = None) -> Usage | None:
    """The account that is written beside something else."""
    return with_usage(status(usage), status(replicas=1), stays, now).usage


def test_a_first_account_goes_back_to_the_start_of_all_pods() -> None:
    made = account([at(NOW - 100), at(NOW - 50, NOW - 20)], NOW)
    assert made is not None
    assert (made.cpu_seconds, made.memory_gib_seconds, made.gpu_seconds) == (260.0, 130.0, 130.0)
    assert time_or(made.until, 0) == NOW


def test_it_is_written_when_something_else_is_or_a_pod_has_gone_or_it_is_old() -> None:
    stays = [at(NOW - 100)]
    before = status(account(stays, NOW), replicas=1)

    def written(stays: list[Stay], now: float, **fields: Any) -> bool:
        after = with_usage(before, status(replicas=1, **fields), stays, now)
        return after != before

    assert not written(stays, NOW + 5)
    assert written(stays, NOW + 5, ready_replicas=1)
    assert written([at(NOW - 100, NOW + 3)], NOW + 5)
    assert not written(stays, NOW + ACCOUNT_SECONDS - 1)
    assert written(stays, NOW + ACCOUNT_SECONDS + 1)
    assert not written([], NOW + 2 * ACCOUNT_SECONDS), "nothing runs"


def test_it_is_never_lost_with_the_pods() -> None:
    usage = account([at(NOW - 100)], NOW)
    assert account([], NOW + 50, usage) == usage
    assert with_usage(status(), status(), [], NOW) == status()


def test_who_may_have_started_unseen_keeps_it_open() -> None:
    """A Pod whose start is yet to be reported would lose what it has used by then."""
    waiting = at(None, created=NOW - 7)
    made = account([at(NOW - 100), waiting], NOW)
    assert made is not None
    assert time_or(made.until, 0) == NOW - 7
    assert used(made, [at(NOW - 100), at(NOW - 6, created=NOW - 7)], NOW) == ONE.times(106)
    for given_up in (at(None, created=NOW - 9000), at(None, created=NOW - 9000, placed=False)):
        closed = account([at(NOW - 100), given_up], NOW)
        assert closed is not None
        assert time_or(closed.until, 0) >= NOW - START_SECONDS


@pytest.mark.parametrize("until", ["", "never", "2999-01-01T00:00:00Z", "0000-00-00"])
def test_what_others_write_there_makes_no_more_of_it(until: str) -> None:
    usage = Usage(cpu_seconds=-5.0, memory_gib_seconds=1.0, until=until)
    assert used(usage, [at(NOW - 100)], NOW) == Requests(0.0, 2.0**30)


@given(
    stays=st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 500), st.floats(0, 3)), max_size=8),
    looks=st.lists(st.tuples(st.floats(0.5, 400), st.booleans()), max_size=20),
)
def test_however_often_it_is_written_and_read_anew_it_is_the_sum_over_the_pods(
    stays: list[tuple[float, float, float]], looks: list[tuple[float, bool]]
) -> None:
    """Each look is that of an operator that has just started: it knows status and the Pods, and no more."""
    usage, now, exact = None, NOW, ONE.times(sum(length for _, length, _ in stays))
    for step, changed in looks:
        now += step
        seen = []
        for start, length, lag in ((NOW + start, length, lag) for start, length, lag in stays):
            if (created := float(int(start))) > now:
                continue
            told = start + lag <= now  # until then the kubelet has not reported of it
            ended = start + length if told and start + length <= now else None
            seen.append(at(start if told else None, ended, created=created))
        usage = with_usage(status(usage), status(replicas=int(changed)), seen, now).usage
    end = NOW + 2000
    total = used(usage, [at(NOW + start, NOW + start + length, created=NOW) for start, length, _ in stays], end)
    assert total.cpu == pytest.approx(exact.cpu, abs=0.05)


# --- Pods that have gone ----------------------------------------------------------------------------------------------


def test_those_that_have_gone_are_remembered_for_a_while() -> None:
    now, g = [NOW], group()
    departed = Departed(lambda: now[0])
    departed.add(worker_pod(g, 0))
    (one,) = departed.of("team", g.uid)
    assert one.ended == NOW
    assert departed.of("other", g.uid) == ()
    now[0] += GONE_SECONDS + 1
    departed.add(worker_pod(g, 1))
    assert [it.uid for it in departed.of("team", g.uid)] == ["uid-simple-default-worker-1"]


def test_no_more_than_so_many_are_remembered() -> None:
    departed, g = Departed(lambda: NOW), group()
    for number in range(MOST_GONE + 10):
        departed.add(worker_pod(g, 0, uid=str(number)))
    kept = departed.of("team", g.uid)
    assert (len(kept), kept[0].uid) == (MOST_GONE, "10")
