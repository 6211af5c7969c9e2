"""What a watch reports, as data."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import NamedTuple

import msgspec

from dask_controller.kube.api import ApiResource, Manifest, identified
from dask_controller.kube.reading import WatchEvent


class Report(NamedTuple):
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``, and the object."""

    type: str
    manifest: Manifest


async def reports(watch: AsyncGenerator[WatchEvent, None], resource: ApiResource) -> AsyncGenerator[Report, None]:
    """The events of a watch of ``resource``."""
    async with contextlib.aclosing(watch):
        async for event in watch:
            yield Report(event.type, identified(msgspec.json.decode(event.object), resource))
