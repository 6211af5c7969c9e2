"""The port at which a scheduler takes orders: signed requests only, and answers that prove who gives them."""

from __future__ import annotations

import logging
import os
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application

from dask_gitops_http import Ask
from dask_gitops_questions import extension
from dask_gitops_requests import MOST_BYTES
from dask_gitops_signing import PROOF, Guard, Proven

PATH = "/dask-gitops/v2/ask"
#: The port, where it is another one.
PORT_VARIABLE = "DASK_GITOPS_PORT"
DEFAULT_PORT = 8788
#: Of what strangers may send and hold, too.
HEAD_BYTES, BODY_SECONDS, IDLE_SECONDS = 16 * 2**10, 10, 120

_logger = logging.getLogger("distributed.dask_gitops")


class SignedAsk(Ask):
    """`Ask` for those who have the key."""

    proven: Proven | None = None

    def may_change(self) -> bool:
        """They may do everything; others nothing."""
        guard: Guard = self.answer
        request = self.request
        self.proven = guard.proven(request.method or "", request.uri or "", request.headers, request.body)
        guard.admit(self.proven)
        return True

    def finish(self, chunk: Any = None) -> Any:
        """Called by tornado when all is written; with the proof, if the request had a signature."""
        if self.proven is not None and chunk is None:
            self.set_header(PROOF, self.proven.proof(self.get_status(), b"".join(self._write_buffer)))
        return super().finish(chunk)


def listen(scheduler: Any) -> None:
    """Open the port, if this Pod has a key; who comes before it is read is asked to wait."""
    guard = extension(scheduler).guard
    if guard is None:
        return
    options = {"dask_server": scheduler, "answer": guard}
    # Strangers would fill the scheduler's log.
    served = Application([(PATH, SignedAsk, options)], log_function=lambda _: None)
    server = HTTPServer(
        served,
        max_body_size=MOST_BYTES,
        max_buffer_size=MOST_BYTES + HEAD_BYTES,
        max_header_size=HEAD_BYTES,
        body_timeout=BODY_SECONDS,
        idle_connection_timeout=IDLE_SECONDS,
    )
    try:
        server.listen(int(os.environ.get(PORT_VARIABLE) or DEFAULT_PORT))
    except (OSError, ValueError) as error:
        _logger.error("dask-gitops: no orders are taken, as the port for them cannot be opened: %s", error)
        return
    scheduler._dask_gitops_control = server


async def close(scheduler: Any) -> None:
    """Close the port and what is connected to it."""
    server = scheduler.__dict__.pop("_dask_gitops_control", None)
    if server is not None:
        server.stop()
        await server.close_all_connections()
