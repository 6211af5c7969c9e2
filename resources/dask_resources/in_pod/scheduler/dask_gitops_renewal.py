"""New certificates for schedulers, nannies and workers that live: no connection breaks, no task is lost.

The scheduler hands this file on to its workers as text, see :func:`renewal`. So it needs nothing from beside it.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tornado.ioloop import PeriodicCallback

NAME = "dask-gitops-renewal"
#: How often the files are looked at. The kubelet brings new content within a minute or two.
CHECK_SECONDS = 10.0
_FILES = ("ca_file", "cert", "key")

_logger = logging.getLogger("distributed.dask_gitops")


class Watch:
    """The certificate of one server (a scheduler, nanny or worker), which is loaded again when its files change."""

    def __init__(self, server: Any, role: str) -> None:
        config = server.security.get_tls_config_for_role(role)
        self.files = [str(config.get(each) or "") for each in _FILES]
        self._server = server
        #: Unknown at first: the files may have changed since the server loaded them, while it waited for its scheduler.
        self._loaded: object = None

    def check(self) -> None:
        """Have a look at the files; what cannot be loaded is looked at again."""
        try:
            version = self._version()
            if version is not None and version != self._loaded:
                self._load()
                if self._loaded is not None:
                    _logger.info("dask-gitops: new certificate")
                self._loaded = version
        except (OSError, ValueError) as error:  # of ssl, too
            _logger.warning("dask-gitops: the new certificate cannot be used: %s", error)

    def _version(self) -> object:
        try:
            found = [os.stat(file) for file in self.files]
        except (OSError, ValueError):  # not given as files
            return None
        return [(each.st_ino, each.st_mtime_ns, each.st_size) for each in found]

    def _load(self) -> None:
        # The kubelet changes all files at once by a link: they are read from behind it.
        authority, certificate, key = map(os.path.realpath, self.files)
        # A failure in the middle would leave a context without its key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key)
        for context in contexts(self._server):
            context.load_verify_locations(authority)
            context.load_cert_chain(certificate, key)


def contexts(server: Any) -> Iterator[ssl.SSLContext]:
    """Those by which a server accepts connections, then those by which it opens them."""
    listening = [getattr(getattr(each, "tcp_server", None), "ssl_options", None) for each in server.listeners]
    opening = [(args or {}).get("ssl_context") for args in (server.connection_args, server.rpc.connection_args)]
    found = {id(each): each for each in (*listening, *opening) if isinstance(each, ssl.SSLContext)}
    yield from found.values()


def watch(server: Any, role: str) -> Watch:
    """Begin to look after the certificate of a server, for as long as it lives."""
    watched = Watch(server, role)
    callback = PeriodicCallback(watched.check, CHECK_SECONDS * 1000)
    server.periodic_callbacks[NAME] = callback  # the server stops it when it closes
    callback.start()
    return watched


def renewal() -> Any:
    """A plugin that has nannies and workers watch their certificates."""
    from distributed.diagnostics.plugin import NannyPlugin, WorkerPlugin

    class Renewal(WorkerPlugin, NannyPlugin):
        """Workers do not have this file. So what is pickled is its text, which any release of Python can read.

        Bytecode, as cloudpickle sends it, only the same release can.
        """

        name = NAME

        def setup(self, worker: Any = None, nanny: Any = None) -> None:  # type: ignore[override]
            watch(nanny if worker is None else worker, "worker")

        def teardown(self, worker: Any = None, nanny: Any = None) -> None:  # type: ignore[override]
            (nanny if worker is None else worker).periodic_callbacks.pop(NAME).stop()

        def __reduce__(self) -> Any:
            names = {"__name__": "dask_gitops_renewal", "__file__": __file__}
            text = Path(__file__).read_text()
            return eval, (f"(lambda names: (exec({text!r}, names), names['renewal']())[1])({names!r})",)

    return Renewal()
