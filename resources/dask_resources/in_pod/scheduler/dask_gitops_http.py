"""Questions and answers by HTTP, whoever asks: JSON in, JSON out, and what goes wrong as a status and a message."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from tornado.web import RequestHandler

from dask_gitops_questions import Extension, answers, extension
from dask_gitops_requests import MOST_BYTES, MOST_QUESTIONS, Malformed, TooLong, read_list

#: Answers to one request may hold the scheduler up for so long; then it has a turn.
TURN_SECONDS = 0.02
MOST_CHARACTERS = 200  #: of an error that is told
MOST_LOGGED = 100  #: different errors

_logger = logging.getLogger("distributed.dask_gitops")
_logged: set[str] = set()


class Route(RequestHandler):
    """A question and its answer in JSON."""

    def initialize(self, dask_server: Any, answer: Any) -> None:
        """Called by tornado with the options of the route."""
        self.scheduler = dask_server  # so called by distributed's get_handlers
        self.answer = answer

    def send(self, content: Any) -> None:
        """Answer with an object."""
        text = json.dumps(content)
        self.set_header("Content-Type", "application/json")
        self.write(text)

    def send_result(self, of: Callable[[], Any]) -> None:
        """Answer with what a function gives, or with what it raises."""
        try:
            self.send(of())
        except Exception as error:
            self.refuse(error)

    def refuse(self, error: Exception) -> None:
        """Answer with an error."""
        status, message = refusal(error)
        self.set_status(status)
        self.send({"message": message})

    def body(self) -> Any:
        """The JSON of the request."""
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


class Ask(Route):
    """Several questions in one request: those of all that the operator does for a cluster."""

    gone = False  #: whoever asked

    def on_connection_close(self) -> None:
        """Called by tornado."""
        self.gone = True

    def may_change(self) -> bool:
        """Whether whoever asks may retire workers, and take that back; raises `Malformed` if they may not even ask."""
        return not extension(self.scheduler).is_guarded

    async def post(self) -> None:
        """Answer all, and let the scheduler have a turn now and then."""
        answered: list[dict[str, Any]] = []
        try:
            may_change = self.may_change()
            questions = read_list(self.body(), "questions", MOST_QUESTIONS)
            asked, rest = extension(self.scheduler), iter(questions)
            while True:
                answered += _in_turn(asked, rest, may_change)
                if len(answered) == len(questions) or self.gone:
                    break
                await asyncio.sleep(0)
            self.send({"answers": answered})
        except Exception as error:
            self.refuse(error)


def _in_turn(asked: Extension, questions: Iterator[Any], may_change: bool) -> list[dict[str, Any]]:
    """The answers to as many questions as there is time for now; one that fails is answered with its error."""
    answered: list[dict[str, Any]] = []
    ends = time.monotonic() + TURN_SECONDS
    with asked.workers.indexed_once():
        for question in questions:
            try:
                answered.append(answers(asked, question, may_change=may_change))
            except Exception as error:
                answered.append({"error": refusal(error)[1]})
            if time.monotonic() > ends:
                break
    return answered


def refusal(error: Exception) -> tuple[int, str]:
    """The status and the message for a question that cannot be answered."""
    if isinstance(error, Malformed):
        return error.status, str(error)[:MOST_CHARACTERS]
    message = f"this scheduler is not as expected: {type(error).__name__}: {error}"[:MOST_CHARACTERS]
    if message not in _logged and len(_logged) < MOST_LOGGED:  # the same is asked every second
        _logged.add(message)
        _logger.error("dask-gitops: %s", message, exc_info=error)
    return 501, message
