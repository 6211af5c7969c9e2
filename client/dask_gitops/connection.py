"""The way to a scheduler that is up: an address, credentials, and where its dashboard answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distributed.security import Security

from dask_crds import names
from dask_crds.names import Label, Port

from . import credentials
from .access import Access
from .errors import DaskGitopsError, MissingRight, NotReady
from .forward import forwarded
from .routes import Route, Via, exposed_link, is_inside, routes, service_host, tls_secret

#: Seconds that the scheduler's Service has to let us in: a NetworkPolicy lets packets vanish.
_DIRECT_SECONDS = 3.0
#: Seconds that what still comes through a port-forward has to end.
_CLOSE_SECONDS = 2.0


@dataclass(frozen=True)
class Connection:
    """What a client needs to know."""

    address: str  #: for ``distributed.Client``
    security: Security | None
    via: Via
    dashboard: tuple[str, int]  #: host and port where it answers, from here
    exposed: str  #: URL under which Git publishes it; empty if it does not


async def open(
    stack: contextlib.AsyncExitStack, access: Access, cluster: Mapping[str, Any], via: Via | None
) -> Connection:
    """Find the best way that works.

    Args:
        stack: what is opened here is closed with it.
        access: way to the API server.
        cluster: manifest of a DaskCluster that is up.
        via: the only way that the user wants.

    Raises:
        MissingRight: for the port-forward that was the last way.
        NotReady: no way leads there.
    """
    secret = tls_secret(cluster)
    security = await credentials.read(access, secret) if secret else None
    inside = is_inside(access.server, os.environ)
    ways = routes(inside=inside, tls=bool(secret), credentials=security is not None, via=via)
    for way in ways:
        try:
            host, port = await _reached(stack, access, cluster, way)
            break
        except (NotReady, MissingRight) as error:
            if way is ways[-1]:
                if secret and security is None:
                    error.add_note(f"it speaks TLS: who may get Secret {secret} connects without a port-forward")
                raise
    exposed = exposed_link(await _published(access, cluster))
    return Connection(
        address=f"{'tls' if way.tls else 'tcp'}://{host}:{port}",
        security=security if way.tls else None,
        via=way.via,
        dashboard=await _dashboard(stack, access, cluster, way.via),
        exposed=exposed,
    )


async def close(stack: contextlib.AsyncExitStack) -> None:
    """Close what was opened; connections that others still hold are not waited for."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await stack.aclose()


async def _reached(
    stack: contextlib.AsyncExitStack, access: Access, cluster: Mapping[str, Any], way: Route
) -> tuple[str, int]:
    if way.via == "forward":
        service = names.scheduler(str(cluster["metadata"]["name"]))
        return "127.0.0.1", await stack.enter_async_context(forwarded(access, service, way.ports))
    host, port = service_host(cluster)
    try:
        async with asyncio.timeout(_DIRECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:  # a TimeoutError, and what the resolver raises, among them
        raise NotReady(f"{host}:{port} does not answer from here ({error or 'no answer'})", "Unreachable") from error
    writer.close()
    return host, port


async def _dashboard(
    stack: contextlib.AsyncExitStack, access: Access, cluster: Mapping[str, Any], via: Via
) -> tuple[str, int]:
    """Through the API server as well where that is allowed: the browser reaches a notebook's ports, no Services."""
    name = str(cluster["metadata"]["name"])
    try:
        forward = forwarded(access, names.scheduler(name), (Port.DASHBOARD.name,))
        return "127.0.0.1", await stack.enter_async_context(forward)
    except DaskGitopsError:
        return service_host(cluster)[0], Port.DASHBOARD.number


async def _published(access: Access, cluster: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Ingresses and HTTPRoutes of the cluster, as `DaskExposure` labels them."""
    labels = {Label.CLUSTER: str(cluster["metadata"]["name"])}
    found: list[Mapping[str, Any]] = []
    for kind in ("Ingress", "HTTPRoute"):
        with contextlib.suppress(DaskGitopsError):  # Gateway API is not everywhere, nor the right to see them
            found += await access.all(kind, labels=labels)
    return found
