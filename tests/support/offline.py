"""What stands for the client where a test has no API server."""

from types import SimpleNamespace
from typing import Any

from dask_crds.kinds import RESOURCES

#: Knows the kinds, and nothing else.
OFFLINE: Any = SimpleNamespace(kinds=RESOURCES)
