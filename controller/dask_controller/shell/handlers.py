"""All that is kopf: its settings, its login, and one handler, by which a change of a resource wakes it.

kopf is the shell of the process: signals, the format of logs, the watches of our kinds. What its watches report only
puts a key into our queue; the work is done outside of it, so that it can be brought to an end after a signal. What else
kopf could do, and why it does not: docs/decisions/0011-what-kopf-is-for.md.
"""

from __future__ import annotations

from typing import Any

import kopf

from dask_crds import names
from dask_crds.model import KINDS

from .caches import Key
from .wakeups import how_soon


class NoDiffBase(kopf.AnnotationsDiffBaseStorage):
    """Keeps no copy of a resource in its annotations, and computes none: that was half of kopf's time."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """Nothing of ``body``."""
        return {}

    def fetch(self, *, body: Any) -> Any:
        """Nothing was stored."""
        return None

    def store(self, **_: Any) -> None:
        """Store nothing."""


class NoProgress(kopf.AnnotationsProgressStorage):
    """Keeps no progress in annotations: our handler has none."""

    def clear(self, *, essence: Any) -> Any:
        """``essence``, as there is nothing to take away, rather than a copy of it."""
        return essence


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Have kopf watch, and write nothing."""
    settings.scanning.disabled = True  # else it needs to watch CRDs and namespaces, and waits 54 s where it may not
    settings.posting.enabled = False  # events are written by us, once for each change of a condition
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.consistency_timeout = 0  # it writes nothing that it could wait for
    settings.watching.chunk_size = 50  # of a list, which is decoded as a whole
    settings.watching.server_timeout = 300  # so that clients spread over API servers again
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30


@kopf.on.login()
async def login(memo: kopf.Memo, **_: Any) -> kopf.AiohttpSession:
    """Log in as our own client does; metadata is all that is wanted, as what has changed is read by us."""
    return kopf.AiohttpSession(server=memo.kubernetes.server, aiohttp_session=memo.kubernetes.metadata_session())


def is_ours(resource: kopf.Resource) -> bool:
    """Not ``kopf.EVERYTHING``: we have no right to watch what another release may add to the group."""
    return resource.kind in KINDS


@kopf.on.event(is_ours, group=names.GROUP, version=names.VERSION)
async def wake(
    resource: kopf.Resource, namespace: str | None, name: str, meta: kopf.Meta, memo: kopf.Memo, **_: Any
) -> None:
    """Have a resource looked at: at once if its ``spec`` has changed, or it is being deleted; else soon."""
    key, generation = Key(str(resource.kind), str(namespace), name), meta.get("generation")
    seconds, prompt = how_soon(memo.caches, key, generation, memo.get("generation"))
    memo.generation = generation  # this memo is the resource's own
    memo.queue.add_after(key, seconds, prompt=prompt)
