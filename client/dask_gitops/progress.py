"""What is waited for, shown while it is: in a terminal by rich, in a notebook in place, else line by line."""

from __future__ import annotations

import html
import sys
from types import TracebackType
from typing import Any, Protocol, Self


class Progress(Protocol):
    """Where words go. It may be told from any thread."""

    def say(self, words: str) -> None:
        """What is waited for now, in place of what was."""

    def close(self) -> None:
        """Nothing is waited for any more."""


class Silent:
    """Shows nothing."""

    def say(self, words: str) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Nothing to end."""


class Lines:
    """A line to standard error for each change: logs of jobs, pipes."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, words: str) -> None:
        """Print it if it is new."""
        if words != self._last:
            self._last = words
            print(words, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to end."""


class Terminal:
    """One line of a terminal that changes, with something that moves."""

    def __init__(self, console: Any) -> None:
        self._status = console.status("connecting ...")
        self._status.start()

    def say(self, words: str) -> None:
        """Replace the line."""
        from rich.markup import escape

        self._status.update(escape(words))

    def close(self) -> None:
        """Take the line away."""
        self._status.stop()


class Notebook:
    """One output of a notebook's cell that changes, and stays as it was last."""

    def __init__(self, display: Any) -> None:
        self._handle, self._last = display, ""

    def say(self, words: str) -> None:
        """Replace the output."""
        from IPython.display import HTML

        if words != self._last:
            self._last = words
            self._handle.update(HTML(f"<small>{html.escape(words)}</small>"))

    def close(self) -> None:
        """Leave what was said last."""


class Shown:
    """A context in which words are shown where they are seen best.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self._progress: Progress = Silent() if quiet else _best()

    def say(self, words: str) -> None:
        """What is waited for now."""
        self._progress.say(words)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the display."""
        self._progress.close()


def _best() -> Progress:
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter or _in_kernel():
        from IPython.display import HTML, display

        return Notebook(display(HTML("<small>connecting ...</small>"), display_id=True))
    return Terminal(console) if console.is_terminal else Lines()


def _in_kernel() -> bool:
    """Whether a Jupyter kernel runs us, without importing IPython where nobody has."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")
