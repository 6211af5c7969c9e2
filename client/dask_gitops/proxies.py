"""Which API servers are reached without the proxy: as ``kubectl`` reads ``NO_PROXY``, networks among it."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def exceptions(server: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that have to be set so that httpx goes past the proxy where one of its networks has the server.

    Go, and so ``kubectl``, takes ``NO_PROXY=10.0.0.0/8``, as most Pods behind a proxy have it; httpx takes it for an
    address. So the server is named besides: it says the same to all others.

    Args:
        server: URL of the API server.
        environment: variables of the process.
    """
    with contextlib.suppress(ValueError):  # a name, which no network has
        address = ipaddress.ip_address(urlsplit(server).hostname or "")
        stated = {name: environment[name] for name in ("no_proxy", "NO_PROXY") if environment.get(name)}
        return {
            name: f"{value},{address}"
            for name, value in stated.items()
            if any(_has(network.strip(), address) for network in value.split(","))
            and str(address) not in value.split(",")
        }
    return {}


def _has(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
