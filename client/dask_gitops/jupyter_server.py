"""How Jupyter's server starts `sidebar` and stops it; the only module that needs that server."""

from __future__ import annotations

import asyncio
import contextlib

from dask_labextension.manager import manager
from jupyter_server.extension.application import ExtensionApp

from .sidebar import watch


class SidebarApp(ExtensionApp):  # type: ignore[misc]  # of what is not installed here
    """The extension. An app, because no other is told of the server's end.

    kr8s reads files in threads of anyio, which last as long as the task that asked for them, and Python waits for them:
    a server that left the task running would not end.
    """

    name = "dask_gitops_sidebar"

    def initialize_settings(self) -> None:
        """Called as the server starts, before its loop runs."""
        loop = self.serverapp.io_loop.asyncio_loop
        self._watching = loop.create_task(watch(manager, self._warn))

    async def stop_extension(self) -> None:
        """Called as it ends."""
        self._watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watching

    def _warn(self, error: Exception) -> None:
        self.serverapp.log.warning("dask_gitops.sidebar: %s", error)
