"""TLS of a scheduler: plain TCP at its Pod's loopback alone, certificates that are renewed, and what it tells of it."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import logging
import os
import pickle
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dask_gitops_renewal import NAME, renewal, watch

#: Where to listen for plain TCP at the loopback; unset: nowhere.
LOOPBACK_PORT_VARIABLE = "DASK_GITOPS_LOOPBACK_PORT"
MOST_ADDRESSES = 16  #: that are told
#: Schemes of addresses by which nothing can be read along.
_ENCRYPTED = ("tls", "wss", "inproc")

_logger = logging.getLogger("distributed.dask_gitops")


async def listen(scheduler: Any) -> None:
    """Open the loopback's port, and see to it that scheduler and workers take new certificates."""
    security = getattr(scheduler, "security", None)
    if security is None or not security.tls_scheduler_cert:
        return
    watch(scheduler, "scheduler")
    scheduler.worker_plugins[NAME] = scheduler.nanny_plugins[NAME] = pickle.dumps(renewal())
    port = os.environ.get(LOOPBACK_PORT_VARIABLE)
    if port and not security.require_encryption:
        try:
            await scheduler.listen(f"tcp://127.0.0.1:{int(port)}", allow_offload=False)
        except (OSError, ValueError) as error:
            _logger.error("dask-gitops: nobody can connect by port-forward: %s", error)


def encryption(scheduler: Any) -> dict[str, Any]:
    """Where plain connections are accepted, and the certificate that a client is shown now."""
    addresses = [listener.contact_address for listener in scheduler.listeners]
    return {
        "plain_listeners": [each for each in addresses if _is_plain(each) and not _is_loopback(each)][:MOST_ADDRESSES],
        "plain_workers": sum(map(_is_plain, scheduler.workers)),
        **_certificate(scheduler),
    }


def _is_plain(address: str) -> bool:
    return urlsplit(address).scheme not in _ENCRYPTED


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(urlsplit(address).hostname or "").is_loopback
    except ValueError:
        return False


def _certificate(scheduler: Any) -> dict[str, Any]:
    """``not_after`` in seconds since the epoch, ``serial``, and ``authority``: SHA-256 of the CA's certificate."""
    accepting = next((listener.tcp_server.ssl_options for listener in scheduler.listeners if _has_tls(listener)), None)
    if accepting is None:
        return {"problem": "it has no certificate"}
    try:
        shown = _shown(accepting, scheduler.connection_args["ssl_context"])
        authority = _first_certificate(Path(scheduler.security.tls_ca_file).read_text())
    except (OSError, ValueError, KeyError) as error:  # of ssl, too
        return {"problem": str(error)}
    return {
        "not_after": ssl.cert_time_to_seconds(shown["notAfter"]),
        "serial": shown["serialNumber"],
        "authority": hashlib.sha256(authority).hexdigest(),
    }


def _has_tls(listener: Any) -> bool:
    return isinstance(getattr(getattr(listener, "tcp_server", None), "ssl_options", None), ssl.SSLContext)


def _shown(accepting: ssl.SSLContext, connecting: ssl.SSLContext) -> Any:
    """The certificate by which one context accepts another one, which verifies it: a handshake without a network.

    Raises:
        ssl.SSLError: one of them does not believe the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = connecting.wrap_bio(to_client, to_server)
    server = accepting.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):  # each has two turns
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.getpeercert() or {}


def _first_certificate(text: str) -> bytes:
    _, _, rest = text.partition("-----BEGIN CERTIFICATE-----")
    return base64.b64decode(rest.partition("-----END")[0])
