"""How long a cluster is woken, and by how many requests."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.virtual_time import virtual_time

from dask_gitops.errors import NotReady
from dask_gitops.waking import MOST_WAKES, Waking


class Kept:
    """A cluster that something keeps suspended: a GitOps tool, a webhook, a policy that mutates."""

    def __init__(self, manager: str = "") -> None:
        self.wakes = 0
        entry = {"manager": manager, "fieldsV1": {"f:spec": {"f:suspend": {}}}}
        self.metadata = {"name": "analytics", "generation": 1, "managedFields": [entry] if manager else []}

    async def get(self, *_: Any) -> dict[str, Any]:
        return {"metadata": self.metadata, "spec": {"suspend": True}}

    async def patch(self, *_: Any) -> dict[str, Any]:
        self.wakes += 1
        assert self.wakes < 100, "for ever, and as fast as the API server answers"
        return await self.get()


@pytest.mark.parametrize(("manager", "words"), [("", "suspended again each time"), ("argocd-controller", "Argo CD")])
@virtual_time
async def test_what_is_kept_suspended_is_given_up(manager: str, words: str) -> None:
    access, noted = Kept(manager), list[str]()
    waking = Waking(
        access,  # type: ignore[arg-type]
        "analytics",
        workers=None,
        minimum=0,
        timeout=600,
        say=lambda _: None,
        note=noted.append,
    )
    with pytest.raises(NotReady, match=words) as caught:
        await waking.up()
    assert caught.value.reason == "Suspended"
    assert access.wakes == MOST_WAKES
    assert len(noted) == bool(manager)
