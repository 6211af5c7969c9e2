"""A DaskCluster as ``distributed`` knows clusters: for a Client, a notebook's widget, a side bar, a task runner."""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
from collections.abc import Awaitable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal

import dask.config
from distributed.core import Status, rpc
from distributed.deploy.cluster import Cluster as DistributedCluster
from distributed.security import Security
from distributed.utils import Log

from dask_crds.names import DEFAULT_GROUP

from . import connection, scaling, standing, templates
from .access import Access
from .errors import DaskGitopsError, NoSuchCluster, NotReady
from .leaving import at_exit
from .progress import Shown
from .routes import Via, dashboard_link
from .waking import Waking

#: What becomes of a cluster that is left: nothing, 0 Pods until somebody wakes it, or its end.
OnClose = Literal["detach", "suspend", "delete"]


@dataclass(frozen=True)
class Adaptive:
    """Bounds within which a group follows the load; await it to know that they are kept."""

    minimum: int
    maximum: int
    _done: Awaitable[Any] | None = field(default=None, repr=False, compare=False)

    def __await__(self) -> Generator[Any, None, Adaptive]:
        """Itself, when the API server has taken the bounds."""
        if self._done is not None:
            yield from self._done.__await__()
        return self


class Cluster(DistributedCluster):
    """A DaskCluster of Git, or one made from a template there: woken, connected to, scaled, left.

    >>> with Cluster("analytics", workers=4) as cluster, Client(cluster) as client:
    ...     client.submit(sum, [1, 2, 3]).result()

    Args:
        name: of the DaskCluster.
        namespace: where it is (default: that of the kubeconfig's context, or of the Pod).
        template: instead of a name: that of a template, from which a cluster is made.
        keep: whether a cluster from a template stays when it is left. Otherwise it is deleted, and goes with the Pod
            that we run in, if that is in its namespace.
        workers: so many workers of the default group are asked for, at least (default: as many as there are).
        minimum: workers that must be ready before it is connected to (default 0: the scheduler is enough).
        timeout: seconds for that.
        on_close: what `close` does: ``detach`` leaves the cluster as it is, ``suspend`` stops its Pods, ``delete``
            deletes it (default: ``delete`` for one from a template without ``keep``, else ``detach``).
        via: ``direct`` or ``forward``; left out, the first that works: by the Service from inside of the Kubernetes
            cluster, else through the API server.
        context: of the kubeconfig.
        kubeconfig: its path.
        quiet: whether to show nothing.
        asynchronous: whether it is awaited: ``cluster = await Cluster(..., asynchronous=True)``.
        loop: event loop of somebody else, as for any cluster of ``distributed``.

    Raises:
        NoSuchCluster: there is none of the name; the message has near ones.
        MissingRight: the message says which.
        NotReady: it does not come up, or not in time; the message says why.
        Unreachable: no Kubernetes answers.
    """

    def __init__(
        self,
        name: str | None = None,
        namespace: str | None = None,
        *,
        template: str | None = None,
        keep: bool = False,
        workers: int | None = None,
        minimum: int = 0,
        timeout: float = 600.0,
        on_close: OnClose | None = None,
        via: Via | None = None,
        context: str | None = None,
        kubeconfig: str | None = None,
        quiet: bool = False,
        asynchronous: bool = False,
        loop: Any = None,
    ) -> None:
        name, self._template, self._keep = templates.name_of(name, template), template, keep
        on_close = on_close or ("delete" if template and not keep else "detach")
        if on_close not in ("detach", "suspend", "delete"):
            raise ValueError(f"on_close: {on_close!r} is not one of detach, suspend, delete")
        if via not in (None, "direct", "forward"):
            raise ValueError(f"via: {via!r} is not one of direct, forward")
        self._signed_in = {"namespace": namespace, "context": context, "kubeconfig": kubeconfig}
        self._target, self._on_close, self._via = name, on_close, via
        self._wanted: dict[str, Any] = {"workers": workers, "minimum": minimum, "timeout": timeout}
        self._stack = contextlib.AsyncExitStack()
        self._connection: connection.Connection | None = None
        self._access: Access | None = None
        self._made, self._abandoning = "", asyncio.Lock()  # uid of the cluster that was made for us alone
        self.security: Security | None = None
        super().__init__(asynchronous=asynchronous, loop=loop, quiet=quiet, name=name)
        self._asynchronous = asynchronous
        if not asynchronous:
            self._loop_runner.start()
            try:
                with Shown(quiet) as shown:
                    self.sync(self._start, shown)
            except BaseException:
                self.sync(self._abandon)
                self._loop_runner.stop()
                raise
            at_exit(self)

    # --- begin --------------------------------------------------------------------------------------------------------

    async def _start(self, shown: Shown | None = None) -> None:
        if self.status != Status.created:
            return
        self.status = Status.starting
        try:
            if shown is not None:
                await self._connect(shown)
            else:
                with Shown(self.quiet) as mine:
                    await self._connect(mine)
        except BaseException:
            await self._abandon()
            raise

    async def _connect(self, shown: Shown) -> None:
        shown.say(f"{self._target}: asking Kubernetes")
        self._access = access = await Access.open(**self._signed_in)
        if self._template:
            shown.say(f"{self._target}: making it from {self._template}")
            made = await templates.make(
                access,
                self._template,
                self._target,
                workers=self._wanted["workers"],
                keep=self._keep,
                note=self._log,
            )
            self._made = made if self._on_close == "delete" else ""
        waking = Waking(access, self._target, **self._wanted, say=shown.say, note=self._log)
        self._manifest = await waking.up()
        shown.say(f"{self._target}: connecting")
        self._connection = way = await connection.open(self._stack, access, self._manifest, self._via)
        self.security = way.security
        arguments = way.security.get_connection_args("client") if way.security else {}
        self.scheduler_comm = rpc(way.address, connection_args=arguments)
        try:
            await super()._start()
        except OSError as error:
            told = f"{self._target} is up, and does not answer at {way.address}: {error}"
            raise NotReady(told, "Unreachable") from error
        shown.say(f"{self._target}: connected to {way.address}, {standing.standing(self._manifest).words}")

    async def _abandon(self) -> None:
        """Leave nothing open of a cluster that was not connected to, nor one behind that was made for that."""
        async with self._abandoning:  # whom Ctrl-C stops comes here twice, and the loop ends after the second
            if self.scheduler_comm is not None:
                await self.scheduler_comm.close_rpc()
            if self._made:
                uid, self._made = self._made, ""
                await self._unmake(uid)
            await connection.close(self._stack)
            self.status = Status.closed

    async def _unmake(self, uid: str) -> None:
        try:
            await self._kubernetes.delete("DaskCluster", self._target, uid=uid)
            self._log(f"deleted {self._target}, which was not connected to; keep=True leaves it")
        except NoSuchCluster:
            pass
        except DaskGitopsError as error:
            self._log(f"{self._target} was made, and is left behind: {error}")

    def __await__(self) -> Generator[Any, None, Cluster]:
        """Itself, connected."""

        async def connected() -> Cluster:
            await self._start()
            return self

        return connected().__await__()

    # --- use ----------------------------------------------------------------------------------------------------------

    @property  # type: ignore[misc]
    def name(self) -> str:
        """Name of the DaskCluster, whatever others who are connected to its scheduler have told that."""
        return self._target

    @property
    def namespace(self) -> str:
        """Namespace of the DaskCluster."""
        return self._access.namespace if self._access else self._signed_in["namespace"] or ""

    def scale(self, n: int, worker_group: str = DEFAULT_GROUP) -> Any:
        """Ask for ``n`` workers.

        Args:
            n: how many.
            worker_group: name within the cluster, of one of ``workerGroups`` say.

        Raises:
            Governed: a DaskAutoscaler sets the number.
            MissingRight: for the scale of the group.
        """
        return self.sync(self._scale, n, worker_group)

    async def _scale(self, n: int, worker_group: str) -> None:
        await scaling.scale(self._kubernetes, self._target, n, worker_group)

    def adapt(  # type: ignore[override]
        self, *, minimum: int = 0, maximum: int, worker_group: str = DEFAULT_GROUP
    ) -> Adaptive:
        """Let the number of workers follow the load, by a DaskAutoscaler; the operator does it, with us or without.

        Args:
            minimum: least number of workers.
            maximum: greatest number.
            worker_group: name within the cluster.

        Raises:
            Governed: Git states the bounds.
            MissingRight: for DaskAutoscalers.
        """
        adapting = self.sync(self._adapt, minimum, maximum, worker_group)
        if not self.asynchronous:
            return Adaptive(minimum, maximum)
        return Adaptive(minimum, maximum, asyncio.ensure_future(adapting))

    async def _adapt(self, minimum: int, maximum: int, worker_group: str) -> None:
        await scaling.adapt(self._kubernetes, self._manifest, minimum, maximum, worker_group)

    async def _get_logs(self, cluster: bool = True, scheduler: bool = True, workers: Any = True) -> Any:
        """As for any cluster; that of the cluster itself has what the operator told of it, besides."""
        logs = await super()._get_logs(cluster=cluster, scheduler=scheduler, workers=workers)
        if cluster:
            with contextlib.suppress(DaskGitopsError):
                told = await self._kubernetes.all("Event", fields=f"involvedObject.name={self._target}")
                lines = [f"{each.get('lastTimestamp')} {each.get('reason')}: {each.get('message')}" for each in told]
                logs["Cluster"] = Log("\n".join(filter(None, [str(logs["Cluster"]), *lines])))
        return logs

    @property
    def dashboard_link(self) -> str:
        """A link that opens where the user's browser is; empty before it is connected to."""
        made = self._connection
        if made is None:
            return ""
        if made.exposed:
            return made.exposed
        return dashboard_link(*made.dashboard, os.environ, str(dask.config.get("distributed.dashboard.link")))

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        via = {None: "not connected", "direct": "by its Service", "forward": "through the API server"}
        way = via[self._connection.via if self._connection else None]
        told: str = super()._repr_html_(cluster_status=html.escape(f"{self.namespace}, {way}"))
        return told

    @property
    def _kubernetes(self) -> Access:
        if self._access is None:
            raise DaskGitopsError("not connected")
        return self._access

    # --- end ----------------------------------------------------------------------------------------------------------

    def close(self, timeout: float | None = None, on_close: OnClose | None = None) -> Any:
        """Leave the cluster, and say what becomes of it.

        Args:
            timeout: seconds that it may take.
            on_close: ``detach``, ``suspend`` or ``delete``, instead of what was said when it was connected to.
        """
        if on_close is not None:
            self._on_close = on_close
        try:
            return super().close(timeout)
        finally:
            if not self.asynchronous:
                self._loop_runner.stop()

    async def _close(self) -> None:
        if self.status in (Status.closed, Status.closing):
            return
        connected = self.status == Status.running
        try:
            await super()._close()
            if connected:
                self._log(await self._left())
        finally:
            self.status = Status.closed
            await connection.close(self._stack)

    async def _left(self) -> str:
        """Do what is to be done with the cluster; what was done, in words."""
        name = f"{self._target} in {self.namespace}"
        if self._on_close != "detach" and await self._gone():
            return f"left {name}, which is gone by now"
        if self._on_close == "suspend":
            suspended = await self._kubernetes.patch("DaskCluster", self._target, {"spec": {"suspend": True}})
            tool = standing.stated_in_git(suspended, "spec", "suspend")
            return f"suspended {name}: its Pods end, the next connect wakes it" + (f"; {tool} may differ" * bool(tool))
        if self._on_close == "delete":
            await self._kubernetes.delete("DaskCluster", self._target, uid=self._manifest["metadata"]["uid"])
            return f"deleted {name}; where Git states it, it comes back with the next sync"
        return f"detached from {name}: {standing.ending(self._manifest)}"

    async def _gone(self) -> bool:
        """Whether the cluster that was connected to ended; what has its name by now is somebody else's."""
        try:
            found = await self._kubernetes.get("DaskCluster", self._target)
        except NoSuchCluster:
            return True
        return bool(found["metadata"]["uid"] != self._manifest["metadata"]["uid"])
