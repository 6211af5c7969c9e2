"""What is still open when Python ends is left as if it had been closed: a template's cluster is not left behind.

Threads are needed for that, to look up the API server's name with, and no more are to be had by the time that `atexit`
calls: so what ``concurrent.futures`` uses itself calls us, before its own is called.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # calls come in the reverse order
import itertools
import os
import sys
import threading
import weakref
from typing import Any

#: Seconds that each may take.
_SECONDS = 10.0
_OPEN: weakref.WeakValueDictionary[tuple[int, int], Any] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def at_exit(opened: Any) -> None:
    """Close something then, by its ``close``, before what was named here earlier. It may have been closed by then."""
    _OPEN[next(_numbers), os.getpid()] = opened


def _leave() -> None:
    for (_, process), opened in reversed(list(_OPEN.items())):
        if process != os.getpid():  # this is a fork: it is its parent's, and its loop does not run here
            continue
        try:
            opened.close(timeout=_SECONDS)
        except Exception as error:
            print(f"dask-gitops: not closed as Python ended: {str(error) or type(error).__name__}", file=sys.stderr)


threading._register_atexit(_leave)  # type: ignore[attr-defined]
