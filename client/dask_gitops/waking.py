"""Wake a cluster and wait until it computes, telling all the while what is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from dask_crds.names import Component, Label
from dask_crds.reasons import Reason

from . import scaling
from .access import Access
from .errors import DaskGitopsError, Governed, NoSuchObject, NotReady, Refused
from .standing import Standing, advice, standing, stated_in_git

#: Seconds between two looks.
_PAUSE = 0.5
#: Seconds for which a problem may last that does not pass by itself: an image is pushed late, a quota is raised.
PATIENCE = 60.0
#: Seconds after which nobody can be expected to look at the cluster any more.
_UNSEEN = 30.0
#: How often a cluster is woken that is suspended again: somebody else wants it so.
MOST_WAKES = 5

#: Reasons of a container that ran and ended.
_CRASHES = ("CrashLoopBackOff", "Error", "Completed", "OOMKilled", "Failed")
#: Lines of a log that are shown with an error.
_LINES = 10

Say = Callable[[str], None]


class Waking:
    """One cluster that is brought up.

    Args:
        access: way to the API server.
        name: of the DaskCluster.
        workers: so many are asked for, at least; ``None``: as many as there are.
        minimum: so many must be ready.
        timeout: seconds until `NotReady` is raised.
        say: where words go about what is waited for.
        note: where words go that are worth keeping.
    """

    def __init__(
        self, access: Access, name: str, *, workers: int | None, minimum: int, timeout: float, say: Say, note: Say
    ) -> None:
        self._access, self._name, self._workers, self._minimum = access, name, workers, minimum
        self._timeout, self._say, self._note = timeout, say, note
        self._reason, self._since, self._wakes = "", 0.0, 0

    async def up(self) -> dict[str, Any]:
        """The manifest of the cluster, as soon as it computes.

        Raises:
            NoSuchCluster: there is none of the name.
            MissingRight: to wake it, say.
            NotReady: it does not come up, or not in time.
        """
        deadline = time.monotonic() + self._timeout
        scaled = self._workers is None
        while True:
            cluster = await self._access.get("DaskCluster", self._name)
            state = standing(cluster, workers=self._minimum)
            if state.state == "asleep":
                await self._wake(cluster)
                continue
            scaled = scaled or await self._scaled()
            if state.state == "up" and scaled:
                self._say(f"{self._name}: {state.words}")
                return cluster
            self._say(f"{self._name}: {state.words}")
            try:
                self._judge(state, time.monotonic(), deadline)
            except NotReady as error:
                if state.reason in _CRASHES and (said := await last_words(self._access, self._name)):
                    error.add_note(said)
                raise
            await asyncio.sleep(_PAUSE)

    async def _wake(self, cluster: dict[str, Any]) -> None:
        tool = stated_in_git(cluster, "spec", "suspend")
        self._wakes += 1
        if self._wakes > MOST_WAKES:
            told = f"{self._name} does not come up: it is suspended again each time that it is woken"
            raise NotReady(f"{told}{f'; {tool} states spec.suspend from Git' if tool else ''}", Reason.SUSPENDED)
        self._say(f"{self._name}: waking")
        if self._wakes > 1:
            await asyncio.sleep(_PAUSE)
        elif tool:
            self._note(f"{self._name}: spec.suspend comes from Git, where {tool} will put it back: leave it out there")
        await self._access.patch("DaskCluster", self._name, {"spec": {"suspend": False}})

    async def _scaled(self) -> bool:
        try:
            await scaling.scale(self._access, self._name, self._workers or 0, "default", at_least=True)
        except Governed as error:
            self._note(str(error))
        except NoSuchObject:  # the group of a new cluster is yet to be made
            return False
        return True

    def _judge(self, state: Standing, now: float, deadline: float) -> None:
        if state.reason != self._reason:
            self._reason, self._since = state.reason, now
        lasts = now - self._since
        unseen = state.words.startswith("the operator") and lasts > _UNSEEN
        if state.state == "failed" or (not state.passes and lasts > PATIENCE) or now > deadline or unseen:
            raise self._not_ready(state, unseen)

    def _not_ready(self, state: Standing, unseen: bool) -> NotReady:
        hint = "does the operator run, and look after this namespace?" if unseen else advice(state.reason)
        late = f" (for {self._timeout:.0f} s)" if state.passes and not unseen else ""
        told = f"{state.words.rstrip('.')}{late}"
        return NotReady(f"{self._name} does not come up: {told}{f'; {hint}' if hint else ''}", state.reason)


async def last_words(access: Access, cluster: str) -> str:
    """What a cluster's scheduler wrote last before it ended; empty if nothing, or the user may not read it."""
    with contextlib.suppress(DaskGitopsError):
        labels = {Label.CLUSTER: cluster, Label.COMPONENT: Component.SCHEDULER}
        for pod in await access.all("Pod", labels=labels):
            for previous in (True, False):
                with contextlib.suppress(Refused):  # there is no container before the first
                    if said := await access.logs(pod["metadata"]["name"], lines=_LINES, previous=previous):
                        return said.rstrip()
    return ""
