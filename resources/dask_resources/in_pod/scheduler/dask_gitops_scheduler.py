"""Preloaded into a Dask scheduler by its path: the routes that the dask-gitops operator needs there.

This file and those that it imports from beside it must run with any ``distributed`` from 2024.11 on, and never break
one that they do not know. Hence: importing them needs only the standard library and tornado; ``dask_setup`` runs where
distributed logs errors and carries on (``PreloadManager.start``); a surprise inside a route is answered with 501 and
leaves the scheduler as it was. Only workers that a request names are ever touched. Routes and fields of ``/v1`` are
only ever added: the operator may be newer than the files that a running scheduler has loaded.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tornado.web import RequestHandler

# Another preload may have imported modules of these names from elsewhere.
for _name in [name for name in sys.modules if name.startswith("dask_gitops_")]:
    if os.path.dirname(getattr(sys.modules[_name], "__file__", None) or "") != os.path.dirname(__file__):
        del sys.modules[_name]

from dask_gitops_questions import Extension, answers, extension
from dask_gitops_requests import (
    MOST_BYTES,
    MOST_QUESTIONS,
    Malformed,
    Pod,
    TooLong,
    is_number,
    read_groups,
    read_list,
    read_pods,
)

VERSION = "5"
PREFIX = "/dask-gitops/v1"

#: Header of a request whose workers share their addresses with nobody. Older hooks send the addresses of nodes as well.
OWN_ADDRESSES = "Dask-Gitops-Own-Addresses"
#: Answers to one request may hold the scheduler up for so long; then it has a turn.
TURN_SECONDS = 0.02
MOST_CHARACTERS = 200  #: of an error that is told
MOST_LOGGED = 100  #: different errors

_logger = logging.getLogger("distributed.dask_gitops")
_logged: set[str] = set()


class _Route(RequestHandler):
    """A question and its answer in JSON."""

    def initialize(self, dask_server: Any, answer: Any) -> None:
        self.scheduler = dask_server  # so called by distributed's get_handlers
        self.answer = answer

    def _send(self, content: Any) -> None:
        text = json.dumps(content)
        self.set_header("Content-Type", "application/json")
        self.write(text)

    def _send_result(self, of: Callable[[], Any]) -> None:
        try:
            self._send(of())
        except Exception as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        status, message = _refusal(error)
        self.set_status(status)
        self._send({"message": message})

    def _body(self) -> Any:
        # A web page must not act for a user of the dashboard, even by DNS rebinding: browsers ask before they send JSON
        # to another site, and name the page's own to every site.
        if not self.request.headers.get("Content-Type", "").startswith("application/json"):
            raise Malformed("expected Content-Type: application/json")
        if "Origin" in self.request.headers:
            raise Malformed("web pages are not answered")
        if len(self.request.body) > MOST_BYTES:
            raise TooLong(f"a request has at most {MOST_BYTES:,} bytes")
        try:
            return json.loads(self.request.body)
        except (ValueError, RecursionError) as error:
            raise Malformed(f"expected JSON: {error}") from None


def _refusal(error: Exception) -> tuple[int, str]:
    """The status and the message for a question that cannot be answered."""
    if isinstance(error, Malformed):
        return error.status, str(error)[:MOST_CHARACTERS]
    message = f"this scheduler is not as expected: {type(error).__name__}: {error}"[:MOST_CHARACTERS]
    if message not in _logged and len(_logged) < MOST_LOGGED:  # the same is asked every second
        _logged.add(message)
        _logger.error("dask-gitops: %s", message, exc_info=error)
    return 501, message


class _AboutScheduler(_Route):
    """A question about the scheduler as a whole."""

    def get(self) -> None:
        self._send_result(lambda: self.answer(extension(self.scheduler)))


class _AboutWorkers(_Route):
    """A question about named workers."""

    def post(self) -> None:
        self._send_result(self._ask)

    def _ask(self) -> Any:
        body = self._body()
        if not (isinstance(body, dict) and isinstance(body.get("workers"), list)):
            raise Malformed('expected {"workers": [...]}')
        owns_ips = OWN_ADDRESSES in self.request.headers
        pods = [pod._replace(owns_ips=owns_ips) for pod in read_pods(body)]
        return self.answer(extension(self.scheduler), pods, body)


class _AdaptiveTarget(_AboutWorkers):
    def get(self) -> None:
        """For the whole cluster, as distributed sees it: what KEDA and the like can read."""
        self._send_result(lambda: {"target": self.scheduler.adaptive_target()})


def _workers_to_close(asked: Extension, pods: list[Pod], body: dict[str, Any]) -> dict[str, Any]:
    n = body.get("n")
    if n is not None and (not isinstance(n, int) or n < 0):
        raise Malformed("n is a number of workers")
    return {"workers": asked.workers.cheapest_first(pods)[:n]}


def _adaptive_target(asked: Extension, _: list[Pod], body: dict[str, Any]) -> dict[str, Any]:
    duration = body.get("target_duration")
    if duration is not None and not (is_number(duration) and duration > 0):
        raise Malformed("target_duration is a number of seconds above 0")
    return asked.target(read_groups(body, body), duration)


class _Ask(_Route):
    """Several questions in one request: those of all that the operator does for a cluster."""

    gone = False  #: whoever asked

    def on_connection_close(self) -> None:
        self.gone = True

    async def post(self) -> None:
        answered: list[dict[str, Any]] = []
        try:
            questions = read_list(self._body(), "questions", MOST_QUESTIONS)
            asked, rest = extension(self.scheduler), iter(questions)
            while True:
                answered += _in_turn(asked, rest)
                if len(answered) == len(questions) or self.gone:
                    break
                await asyncio.sleep(0)
            self._send({"answers": answered})
        except Exception as error:
            self._refuse(error)


def _in_turn(asked: Extension, questions: Iterator[Any]) -> list[dict[str, Any]]:
    """The answers to as many questions as there is time for now; one that fails is answered with its error."""
    answered: list[dict[str, Any]] = []
    ends = time.monotonic() + TURN_SECONDS
    with asked.workers.indexed_once():
        for question in questions:
            try:
                answered.append(answers(asked, question))
            except Exception as error:
                answered.append({"error": _refusal(error)[1]})
            if time.monotonic() > ends:
                break
    return answered


def _route(name: str, handler: type[_Route], answer: Any = None) -> tuple[str, type[_Route], dict[str, Any]]:
    return f"{PREFIX}/{name}", handler, {"answer": answer}


#: Of use to ``distributed.scheduler.http.routes`` as well, for whoever prefers to load the module that way.
routes = [
    _route("ask", _Ask),
    _route("state", _AboutScheduler, lambda asked: {"version": VERSION, **asked.status.state()}),
    _route("progress", _AboutScheduler, lambda asked: asked.status.progress()),
    _route("versions", _AboutScheduler, lambda asked: asked.status.versions()),
    _route("workers_to_close", _AboutWorkers, _workers_to_close),
    _route("retire", _AboutWorkers, lambda asked, pods, _: {"workers": asked.retirement.retire(pods)}),
    _route("resume", _AboutWorkers, lambda asked, pods, _: {"workers": asked.retirement.resume(pods)}),
    _route("adaptive_target", _AdaptiveTarget, _adaptive_target),
]


async def dask_setup(scheduler: Any) -> None:
    """Called by distributed when the scheduler has started."""
    extension(scheduler)
    served = [(path, handler, {**options, "dask_server": scheduler}) for path, handler, options in routes]
    scheduler.http_application.add_handlers(r".*", served)
    await _preload_hidden(scheduler)


async def dask_teardown(scheduler: Any) -> None:
    """Called by distributed when the scheduler closes."""
    hidden = scheduler.__dict__.get("_dask_gitops_hidden")
    if hidden is not None:
        await hidden.teardown()


async def _preload_hidden(scheduler: Any) -> None:
    """Load what the user's YAML files ask to preload.

    The variable that names this file hides it, as dask's configuration does not merge lists. Preloads on the command
    line, or others in that variable, would have hidden it anyway.
    """
    if len(scheduler.preloads) != 1:
        return
    from dask import config
    from distributed.preloading import process_preloads

    files = config.collect(env={})
    names = config.get("distributed.scheduler.preload", None, config=files) or []
    arguments = config.get("distributed.scheduler.preload-argv") or config.get(
        "distributed.scheduler.preload-argv", [], config=files
    )
    if names:
        scheduler._dask_gitops_hidden = process_preloads(scheduler, names, arguments)
        await scheduler._dask_gitops_hidden.start()
