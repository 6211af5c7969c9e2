"""Logs of a scheduler, workers or a runner, each line with the Pod that it is of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import click
import httpx
import kr8s

from ..access import Access
from ..errors import DaskGitopsError, Refused, Unreachable, refusal
from .facts import Manifest, maps, name_of, text
from .pods import MESHES
from .seen import Seen

#: Pods whose logs are followed at a time: each is a connection.
MOST_FOLLOWED = 50


def pods_of(subject: Manifest, seen: Seen, *, part: str) -> list[Manifest]:
    """The Pods that are meant.

    Args:
        subject: a DaskCluster, DaskWorkerGroup or DaskJob.
        seen: what was read.
        part: ``scheduler``, ``workers``, ``runner`` or ``all``; empty: what most people want of the kind.
    """
    kind = subject["kind"]
    part = part or {"DaskJob": "runner", "DaskWorkerGroup": "workers"}.get(kind, "scheduler")
    job, cluster = (subject if kind == "DaskJob" else None), (subject if kind == "DaskCluster" else None)
    if kind == "DaskWorkerGroup":
        groups, cluster = [subject], None
    else:
        cluster = cluster if job is None else seen.cluster_of(job)
        groups = seen.groups_of(cluster) if cluster is not None else []
    found: list[Manifest] = []
    if part in ("runner", "all") and job is not None:
        found += seen.runner_pods(job)
    if part in ("scheduler", "all") and cluster is not None:
        found += seen.scheduler_pods(cluster)
    if part in ("workers", "all"):
        found += [pod for group in groups for pod in seen.workers(group)]
    return found


def main_container(pod: Manifest) -> str:
    """The container that matters: the first that is no proxy of a mesh."""
    names = [text(c, "name") for c in maps(pod, "spec", "containers")]
    return next((name for name in names if name not in MESHES), "")


async def show(access: Access, pods: Sequence[Manifest], asked: dict[str, str]) -> None:
    """Write the logs to standard output, as they come.

    Args:
        access: way to the API server.
        pods: whose.
        asked: parameters of the request, ``follow`` say.
    """
    prefixed = len(pods) > 1
    if "follow" in asked:
        if len(pods) > MOST_FOLLOWED:
            raise DaskGitopsError(f"{len(pods)} Pods are too many to follow; at most {MOST_FOLLOWED}")
        async with asyncio.TaskGroup() as tasks:
            for pod in pods:
                tasks.create_task(_one(access, pod, asked, prefixed))
        return
    for pod in pods:
        await _one(access, pod, asked, prefixed)


async def _one(access: Access, pod: Manifest, asked: dict[str, str], prefixed: bool) -> None:
    name = name_of(pod)
    given = {"container": main_container(pod), **asked}
    try:
        async with _stream(access, name, {key: value for key, value in given.items() if value}) as lines:
            async for line in lines:
                click.echo(f"[{name}] {line}" if prefixed else line)
    except Refused as error:
        if not prefixed:
            raise
        click.echo(f"[{name}] {error}", err=True)  # it has not started, say: others may have


@asynccontextmanager
async def _stream(access: Access, pod: str, params: dict[str, str]) -> AsyncIterator[Any]:
    request: Any = {"version": "v1", "namespace": access.namespace, "url": f"pods/{pod}/log", "params": params}
    async with AsyncExitStack() as stack:
        with _told(access):
            asked = access.api.call_api("GET", **request, stream=True, timeout=httpx.Timeout(30.0, read=None))
            response = await stack.enter_async_context(asked)
        yield _lines(access, response)


async def _lines(access: Access, response: httpx.Response) -> AsyncIterator[str]:
    lines = response.aiter_lines()
    while True:
        with _told(access):  # not where they are written: there an error is that of a pipe that `head` has closed
            line = await anext(lines, None)
        if line is None:
            return
        yield line


@contextmanager
def _told(access: Access) -> Iterator[None]:
    try:
        yield
    except kr8s.ServerError as error:
        status = error.response.status_code if error.response is not None else 500
        told = {"verb": "get", "resource": "pods/log", "namespace": access.namespace}
        raise refusal(status, str(error), **told) from error
    except (httpx.TransportError, kr8s.APITimeoutError, OSError) as error:
        raise Unreachable(f"Kubernetes does not answer: {error}") from error
