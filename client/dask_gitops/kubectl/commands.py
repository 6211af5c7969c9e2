"""What the commands do; `cli` says how they are called."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.live import Live

from dask_crds import names

from ..access import Access
from ..errors import MissingRight, NoSuchObject, Refused
from . import changes, logs, shown
from .changes import Change
from .facts import name_of, text
from .reading import chosen, found, listed, opened, parted, seen
from .tree import ROOTS, forest
from .usage import lines
from .where import Where
from .why import why

_ANY = ("DaskJob", "DaskCluster", "DaskWorkerGroup", "DaskAutoscaler")
#: Seconds between two looks of `top`.
PAUSE = 2.0
#: How often a change is tried that somebody else's has overtaken.
ATTEMPTS = 5


async def status(where: Where, name: str, *, machine: bool) -> None:
    """Show what there is."""
    access = await opened(where)
    everything = await seen(access, everywhere=where.everywhere)
    kinds, plain = parted(name, *ROOTS) if name else (ROOTS, "")
    roots = forest(everything, time.time(), name=plain, kinds=kinds)
    if name and not roots:
        raise NoSuchObject(" or ".join(kinds), plain, access.namespace, _names(everything))
    if machine:
        click.echo(shown.as_json([root.as_json() for root in roots]))
        return
    if not roots:
        place = "in any namespace" if where.everywhere else f"in namespace {access.namespace}"
        click.echo(f"no DaskCluster or DaskJob {place}", err=True)
    output = shown.console()
    for tree in shown.tree_of(roots, namespaces=where.everywhere):
        output.print(tree, crop=False)


def _names(everything: Any) -> list[str]:
    return sorted({name_of(it) for it in (*everything.clusters, *everything.jobs)})


async def explain(where: Where, name: str, *, machine: bool) -> None:
    """Say why something is as it is."""
    access = await opened(where)
    everything = await seen(access, causes=True)
    cause = why(chosen(everything, name, access.namespace, *_ANY), everything, time.time())
    if machine:
        click.echo(shown.as_json({**cause.as_json(), "unread": list(everything.unread)}))
        return
    shown.console().print(shown.cause_of(cause), soft_wrap=True)
    for right in everything.unread:
        click.echo(f"without the right to {right} in namespace {access.namespace}: there may be more to it", err=True)


async def show_logs(where: Where, name: str, *, part: str, asked: dict[str, str]) -> None:
    """Show logs."""
    access = await opened(where)
    everything = await seen(access)
    subject = chosen(everything, name, access.namespace, *_ANY[:3])
    pods = logs.pods_of(subject, everything, part=part)
    if not pods:
        raise click.ClickException(f"{subject['kind']} {name_of(subject)} has no Pod of that kind now: see `why`")
    await logs.show(access, pods, asked)


# --- what changes something -------------------------------------------------------------------------------------------


async def suspend(where: Where, name: str, *, suspended: bool, machine: bool) -> None:
    """Suspend a cluster or job, or let it go on."""
    access = await opened(where)
    it = await found(access, name, "DaskJob", "DaskCluster")
    await _carry_out(access, changes.suspend(it, suspended=suspended), machine=machine)


async def rerun(where: Where, name: str, run_id: str | None, *, machine: bool) -> None:
    """Run a job once more."""
    access = await opened(where)
    await _carry_out(access, changes.rerun(await found(access, name, "DaskJob"), run_id), machine=machine)


async def restart(where: Where, name: str, *, group: str, machine: bool) -> None:
    """Replace workers by new ones."""
    access, when = await opened(where), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kinds = ("DaskCluster",) if group else ("DaskCluster", "DaskWorkerGroup")
    for attempt in range(1, ATTEMPTS + 1):
        it = await found(access, name, *kinds)
        try:
            await _carry_out(access, changes.restart(it, when, group=group), machine=machine)
            return
        except Refused as error:
            if error.status != 409 or attempt == ATTEMPTS:
                raise


async def scale(where: Where, name: str, replicas: int, *, machine: bool) -> None:
    """Set the number of workers."""
    access = await opened(where)
    it = await found(access, name, "DaskCluster", "DaskWorkerGroup")
    if it["kind"] == "DaskCluster":
        group = await _or_none(access, "DaskWorkerGroup", names.default_group(name_of(it)))
    else:
        group = it
        cluster = await _or_none(access, "DaskCluster", text(it, "spec", "cluster"))
        if cluster is not None and name_of(it) == names.default_group(name_of(cluster)):
            it = {"kind": "DaskCluster", **cluster}  # which hands its number on
        else:
            changes.check_stated_size(it, cluster)
    await _carry_out(access, changes.scale(it, group, replicas), machine=machine)


async def _or_none(access: Access, kind: str, name: str) -> dict[str, Any] | None:
    try:
        return {"kind": kind, **await access.get(kind, name)}
    except NoSuchObject:
        return None


async def _carry_out(access: Access, change: Change, *, machine: bool) -> None:
    await access.patch(change.kind, change.name, change.patch, subresource=change.subresource)
    if machine:
        told = {"kind": change.kind, "name": change.name, "namespace": access.namespace}
        click.echo(shown.as_json({**told, "message": change.words, "note": change.note}))
        return
    click.echo(change.words)
    if change.note:
        click.echo(f"note: {change.note}", err=True)


# --- live -------------------------------------------------------------------------------------------------------------


async def top(where: Where, *, machine: bool, once: bool) -> None:
    """Show what clusters use; on a terminal again and again."""
    access = await opened(where)
    output = shown.console()
    if machine or once or not output.is_terminal:
        rows, table, unread = await _usage(access, where.everywhere)
        if machine:
            click.echo(shown.as_json({"items": rows, "unread": unread}))
        else:
            output.print(table, crop=False)
            for right in unread:
                click.echo(f"without the right to {right}: nobody knows CPU and memory", err=True)
        return
    with Live(console=output, screen=False, auto_refresh=False) as live:
        while True:
            live.update((await _usage(access, where.everywhere))[1], refresh=True)
            await asyncio.sleep(PAUSE)


async def _usage(access: Access, everywhere: bool) -> tuple[Sequence[Any], Any, list[str]]:
    unread: list[str] = []
    everything = await seen(access, everywhere=everywhere)
    try:
        metrics = await listed(access, "PodMetrics", everywhere=everywhere)
    except MissingRight as error:
        metrics, unread = [], [f"{error.verb} {error.resource}"]
    found = lines(everything, metrics, time.time())
    table = shown.usage_table(found, namespaces=everywhere, measured=bool(metrics))
    return [line.as_json() for line in found], table, unread


def run(command: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Run a command to its end."""

    async def told() -> None:
        asyncio.get_running_loop().set_exception_handler(_tell)
        await command(*arguments, **options)

    asyncio.run(told())


def _tell(_: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
    """Say in words what has gone wrong on the side, in a port-forward that a client uses."""
    error = what.get("exception")
    click.echo(str(error or "") or what["message"], err=True)
