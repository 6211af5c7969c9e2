"""Everything that a command looks at, read at once; what a user may not read is left out and named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import kr8s

from dask_crds.kinds import DASK_KINDS, ApiResource
from dask_crds.names import Label

from ..access import Access
from ..errors import DaskGitopsError, MissingRight, NoSuchObject, NotInstalled, Unreachable, near_names, refusal
from .facts import Manifest, maps, name_of, text
from .rights import ROWS
from .seen import Seen
from .where import Where

#: Objects that the API server is asked for at a time.
PAGE = 500
#: Events that are read: those of what went wrong, and of nodes that are coming.
_EVENTS = ("type=Warning", "reason=TriggeredScaleUp")
#: Our kinds in the order in which they are read.
_KINDS = ("DaskCluster", "DaskWorkerGroup", "DaskJob", "DaskAutoscaler")


async def opened(where: Where) -> Access:
    """Sign in as ``kubectl`` would."""
    return await Access.open(where.namespace, context=where.context, kubeconfig=where.kubeconfig)


async def listed(
    access: Access, kind: str, *, everywhere: bool = False, selector: str = "", fields: str = ""
) -> list[Manifest]:
    """Objects of a kind, in pages; none where Kubernetes does not know the kind.

    Raises:
        NotInstalled: it does not know a kind of ours.
        MissingRight: the user may not list them.
        Unreachable: it does not answer.
    """
    row, found, more = ROWS[kind], list[Manifest](), ""
    namespace = "" if everywhere else access.namespace
    while True:
        asked = {"labelSelector": selector, "fieldSelector": fields, "continue": more, "limit": str(PAGE)}
        status, answer = await _got(access, row, namespace, {key: value for key, value in asked.items() if value})
        if status == 404 and kind in DASK_KINDS:
            raise NotInstalled
        if status in (404, 503) and kind not in DASK_KINDS:  # 503: of an API that others serve
            return found
        if status >= 400:
            resource = f"{row.plural}.{row.group}" if row.group else row.plural
            words = text(answer, "message") or f"HTTP status {status}"
            raise refusal(status, words, verb="list", resource=resource, namespace=namespace)
        # In a list, objects do not say what they are.
        found += [{**item, "apiVersion": row.api_version, "kind": row.kind} for item in maps(answer, "items")]
        more = text(answer, "metadata", "continue")
        if not more:
            return found


async def _got(access: Access, row: ApiResource, namespace: str, params: dict[str, str]) -> tuple[int, Any]:
    """Status and content of an answer.

    For each refusal kr8s would sign in anew, three times, and break off what others ask at the same time.
    """
    request: Any = {"version": row.api_version, "namespace": namespace, "url": row.plural, "params": params}
    try:
        async with access.api.call_api("GET", **request, raise_for_status=False) as response:
            status = int(response.status_code)
            try:
                return status, response.json()
            except json.JSONDecodeError:  # it says in plain text that it does not know a group
                return status if status >= 400 else 502, None
    except (httpx.TransportError, kr8s.APITimeoutError, OSError) as error:
        raise Unreachable(f"Kubernetes does not answer: {error or type(error).__name__}") from error


async def seen(access: Access, *, everywhere: bool = False, causes: bool = False) -> Seen:
    """What there is of Dask.

    Args:
        access: way to the API server.
        everywhere: in all namespaces.
        causes: whether to read what `why` wants besides: events, quotas, queues.
    """
    kinds = [listed(access, kind, everywhere=everywhere) for kind in _KINDS]
    *dask, pods = await asyncio.gather(*kinds, listed(access, "Pod", everywhere=everywhere, selector=Label.CLUSTER))
    clusters, groups, jobs, autoscalers = map(tuple, dask)
    everything = Seen(clusters=clusters, groups=groups, jobs=jobs, autoscalers=autoscalers, pods=tuple(pods))
    return await _with_causes(access, everything) if causes else everything


async def _with_causes(access: Access, found: Seen) -> Seen:
    warnings, nodes, quotas, workloads = await asyncio.gather(
        *(_optional(access, "Event", fields) for fields in _EVENTS),
        _optional(access, "ResourceQuota"),
        _optional(access, "Workload"),
    )
    workloads = workloads or await _optional(access, "OlderWorkload")
    unread = [it for it in (warnings, quotas, workloads) if isinstance(it, MissingRight)]

    def read(it: Sequence[Manifest] | MissingRight) -> tuple[Manifest, ...]:
        return () if isinstance(it, MissingRight) else tuple(it)

    return replace(
        found,
        events=(*read(warnings), *read(nodes)),
        quotas=read(quotas),
        workloads=read(workloads),
        unread=tuple(f"{it.verb} {it.resource}" for it in unread),
    )


async def _optional(access: Access, kind: str, fields: str = "") -> list[Manifest] | MissingRight:
    try:
        return await listed(access, kind, fields=fields)
    except MissingRight as error:
        return error


# --- which one is meant -----------------------------------------------------------------------------------------------

#: What may stand before ``/`` in a name, as ``kubectl`` takes it.
KINDS = {
    word: row.kind
    for row in DASK_KINDS.values()
    for word in (
        row.kind.lower(),
        row.plural,
        *row.short_names,
        {"DaskCluster": "cluster", "DaskWorkerGroup": "group", "DaskJob": "job", "DaskAutoscaler": "autoscaler"}[
            row.kind
        ],
    )
}


class UnknownKind(DaskGitopsError):
    """What stands before ``/`` is no kind of ours, or nothing stands behind it."""


def parted(name: str, *kinds: str) -> tuple[tuple[str, ...], str]:
    """The kinds that a name may be of, and the name: ``job/etl`` is a job; without a kind, ``kinds`` in this order."""
    word, slash, rest = name.partition("/")
    if not (rest or (name and not slash)):
        raise UnknownKind(f"{name!r}: the name is missing")
    if not slash:
        return kinds, name
    kind = KINDS.get(word.partition(".")[0].lower())
    if kind not in kinds:
        known = ", ".join(word for word, each in KINDS.items() if each in kinds)
        raise UnknownKind(f"{name}: {word} is no kind that this command takes; they are {known}")
    return (kind,), rest


async def found(access: Access, name: str, *kinds: str) -> dict[str, Any]:
    """The object that is meant: the first of the kinds that has one of the name. A job's cluster has the job's name.

    Raises:
        NoSuchObject: there is none.
        MissingRight: the user may not get it.
    """
    there, plain = parted(name, *kinds)
    missing = []
    for kind in there:
        try:
            return {"kind": kind, **await access.get(kind, plain)}
        except NoSuchObject as error:
            missing.append(error)
    near = [each for error in missing for each in error.near]
    raise NoSuchObject(" or ".join(there), plain, access.namespace, near) if near else missing[0]


def chosen(everything: Seen, name: str, namespace: str, *kinds: str) -> Manifest:
    """The same among what was read.

    Raises:
        NoSuchObject: there is none.
    """
    there, plain = parted(name, *kinds)
    objects = (*everything.jobs, *everything.clusters, *everything.groups, *everything.autoscalers)
    for kind in there:
        if match := next((it for it in objects if it["kind"] == kind and name_of(it) == plain), None):
            return match
    names = {name_of(it) for it in objects if it["kind"] in there}
    near = near_names(plain, names)
    what = there[0] if len(there) == 1 else "Dask resource"
    raise NoSuchObject(what, plain, namespace, near or names)
