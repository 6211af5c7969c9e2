"""Schedulers with the module as it is, and as it was."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator

import pytest
from tests.support.dask_scheduler import MODULE, running


@pytest.fixture
def heeding() -> Iterator[None]:
    """This process plays a worker, which has a handler; without one its hook would stop all that it has started."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
async def rig():
    async with running(MODULE) as rig:
        yield rig


@pytest.fixture
async def old_rig(tmp_path):
    """A scheduler that was started when the module had no route for several questions at once."""
    shutil.copytree(MODULE.parent, tmp_path, dirs_exist_ok=True)
    text, route = re.sub(r'VERSION = "\d+"', 'VERSION = "3"', MODULE.read_text()), '_route("ask", Ask),'
    assert route in text
    (tmp_path / MODULE.name).write_text(text.replace(route, ""))
    async with running(tmp_path / MODULE.name) as rig:
        yield rig
