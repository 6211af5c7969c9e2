"""When a process of ours should be restarted."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from dask_controller.kube.process import STUCK_SECONDS, trouble
from dask_controller.kube.workqueue import Queue
from dask_crds.kinds import RESOURCES


def _informer(age: float = 0.0, *, synced: bool = True) -> SimpleNamespace:
    heard = asyncio.Event()
    if synced:
        heard.set()
    return SimpleNamespace(resource=RESOURCES["Pod"], synced=heard, age_seconds=lambda: age)


LATE = STUCK_SECONDS + 1


@pytest.mark.parametrize(
    ("idle", "informers", "why"),
    [
        (0.0, [_informer()], None),
        (0.0, [_informer(), _informer(LATE)], "nothing heard of pods"),
        (0.0, [_informer(LATE), _informer(synced=False)], None),  # it starts
        (LATE, [_informer(synced=False)], "nothing has been reconciled for 301 s, though there is something to do"),
        (STUCK_SECONDS, [_informer(STUCK_SECONDS)], None),
    ],
)
def test_a_process_is_restarted_when_it_is_stuck_or_deaf(idle, informers, why, monkeypatch):
    queue = Queue[str](expected=OSError)
    monkeypatch.setattr(queue, "idle_seconds", lambda: idle)
    assert trouble(queue, informers) == why
