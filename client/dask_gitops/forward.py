"""Ports of this machine that lead to a Pod, through the API server, by kr8s.

What comes in is sent to the Pod as the user who opened the port: so it listens at the loopback alone.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from kr8s.asyncio.objects import Pod
from kr8s.asyncio.portforward import PortForward

from .access import Access
from .errors import NotReady

#: Least seconds between two looks for a Pod, and most looks within some seconds.
_PAUSE = 1.0
_MOST_LOOKS, _WITHIN = 20, 60.0
#: Local ports that are tried: kr8s chooses one at random, and somebody else may be faster.
_ATTEMPTS = 5


class _Pods:
    """The Pod behind a Service, looked for anew after each failure: what kr8s' port-forward asks for.

    A scheduler that restarts is waited for. kr8s tries again at once, and without end, so that it is slowed down here,
    and stopped.
    """

    def __init__(self, access: Access, selector: Mapping[str, str]) -> None:
        self._access, self._selector = access, selector
        self._looks: collections.deque[float] = collections.deque(maxlen=_MOST_LOOKS)

    async def ready_pods(self) -> list[Any]:
        """kr8s looks for the name."""
        return await self.async_ready_pods()

    async def async_ready_pods(self) -> list[Any]:
        """Pods that take connections, as objects of kr8s."""
        while True:
            now = time.monotonic()
            if len(self._looks) == _MOST_LOOKS and now - self._looks[0] < _WITHIN:
                raise ConnectionError("the port-forward cannot reach the Pod")
            if self._looks and now - self._looks[-1] < _PAUSE:
                await asyncio.sleep(_PAUSE)
            self._looks.append(time.monotonic())
            pods = [pod for pod in await self._access.all("Pod", labels=self._selector) if is_ready(pod)]
            if pods:
                return [await Pod(pod, api=self._access.api) for pod in pods]


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a Pod takes connections and stays."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def pod_port(service: Mapping[str, Any], pod: Mapping[str, Any], names: Sequence[str]) -> int | None:
    """Number of the Pod's port that the first of a Service's ports that there is leads to; ``None`` if none does.

    Args:
        service: manifest.
        pod: manifest.
        names: of the Service's ports, the most wanted first.
    """
    ports = {port.get("name"): port for port in service["spec"].get("ports") or ()}
    found = next((ports[name] for name in names if name in ports), None)
    if found is None:
        return None
    target = found.get("targetPort") or found["port"]
    if isinstance(target, int):
        return target
    declared = (port for each in pod["spec"]["containers"] for port in each.get("ports") or ())
    return next((port["containerPort"] for port in declared if port.get("name") == target), None)


async def require_rights(access: Access) -> None:
    """Tell which right to forward a port is missing: kr8s would try for ever.

    Raises:
        MissingRight: the first that is missing.
    """
    await access.require("list", "Pod")
    for verb in ("get", "create"):  # the request is a GET, and newer API servers ask for `create` besides
        await access.require(verb, "Pod", subresource="portforward")


@contextlib.asynccontextmanager
async def forwarded(access: Access, service: str, names: Sequence[str], *, local_port: int = 0) -> AsyncIterator[int]:
    """A port of this machine's loopback that leads to the Pod behind a Service, as long as the context lasts.

    Another Pod behind the same Service is found by itself when the first is gone.

    Args:
        access: way to the API server.
        service: name of the Service.
        names: of its port, the most wanted first.
        local_port: number here; 0: any that is free.

    Yields:
        The number of the port.

    Raises:
        MissingRight: for the port-forward, or to read the Service or its Pods.
        NotReady: nothing behind the Service takes connections, or it has no such port.
    """
    await require_rights(access)
    found = await access.get("Service", service)
    selector = found["spec"].get("selector") or {}
    pods = [pod for pod in await access.all("Pod", labels=selector) if is_ready(pod)] if selector else []
    if not pods:
        raise NotReady(f"no Pod behind Service {service} takes connections", "NoReadyPod")
    remote = pod_port(found, pods[0], names)
    if remote is None:
        raise NotReady(f"Service {service} has no port {' or '.join(names)}", "NoPort")
    async with _listening(access, selector, remote, local_port) as port:
        yield port


@contextlib.asynccontextmanager
async def _listening(access: Access, selector: Mapping[str, str], remote: int, local_port: int) -> AsyncIterator[int]:
    async with contextlib.AsyncExitStack() as stack:
        for attempt in range(1, _ATTEMPTS + 1):
            forward = PortForward(_Pods(access, selector), remote, local_port=local_port or "auto")  # type: ignore[arg-type]
            try:
                port = await stack.enter_async_context(forward)
                break
            except OSError:
                if local_port or attempt == _ATTEMPTS:
                    raise
        yield port
