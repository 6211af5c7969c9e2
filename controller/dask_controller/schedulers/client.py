"""The client of the scheduler's module (``dask_resources.scheduler_extension``)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ..core.questions import (
    AboutWorkers,
    Answers,
    Ask,
    Idle,
    PackageVersions,
    Question,
    Rank,
    Registered,
    Resume,
    Retire,
    Target,
    TaskProgress,
)
from .answers import (
    LARGEST_ANSWER,
    LARGEST_STATE,
    Limits,
    Reply,
    Request,
    SaidForm,
    SchedulerError,
    StateForm,
    believed,
    complaint,
    decoded,
    registered,
    unexpected,
    wire,
)
from .connection import Connection, Response
from .signing import PROOF, Key

PREFIX = "/dask-gitops/v1"
#: Where orders are signed.
SIGNED_PATH = "/dask-gitops/v2/ask"

#: How long a connection is kept for the next question; who routes it may forget it after some minutes of silence.
KEEP_SECONDS = 60.0


class _Route(NamedTuple):
    """How modules of ``VERSION`` 3 and older are asked one question."""

    name: str
    answer_field: str = ""  #: empty: all of the answer


#: Two more are answered by their `StateForm`, and others they do not know.
_ROUTES: Mapping[type[Question[Any]], _Route] = {
    Resume: _Route("resume", "workers"),
    TaskProgress: _Route("progress"),
    PackageVersions: _Route("versions"),
    Rank: _Route("workers_to_close", "workers"),
    Target: _Route("adaptive_target", "target"),
    Retire: _Route("retire", "workers"),
}


def _body(question: Question[Any]) -> bytes | None:
    """What such a route takes; ``None`` if it takes nothing."""
    match question:
        case AboutWorkers():
            return msgspec.json.encode({"workers": wire(question.workers)})
        case Target():
            others = {"before": wire(question.before), "after": wire(question.after)}
            return msgspec.json.encode({**wire(question.group), **others})
    return None


class SchedulerClient:
    """One scheduler, which gets one request at a time.

    Args:
        url: of its dashboard's port, ``http``; of its control port, if it has one.
        keys: one of which it has, the likeliest first; empty: it takes orders unsigned.
        timeout_seconds: for an answer; it comes from memory, so longer means that the scheduler is stuck.
        clock: seconds since the epoch, which must not differ much from those of the scheduler's node.
    """

    def __init__(
        self,
        url: str,
        *,
        keys: Sequence[Key] = (),
        timeout_seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path, self._authority = parts.path.rstrip("/") + PREFIX, parts.netloc
        self._keys, self._clock = tuple(keys), clock
        self._seconds = timeout_seconds
        self._kept: Connection | None = None
        self._forget: asyncio.TimerHandle | None = None
        self._is_old = False  #: its module has no route ``ask``; a restart, which ends connections, may change that

    async def put(self, request: Request, last: Reply | None = None) -> Reply:
        """The answers to a request.

        Args:
            request: what is asked.
            last: the last reply; returned as it is, undecoded, where the scheduler says the same again.

        Raises:
            SchedulerError: there is none, or none that makes sense.
        """
        try:
            async with asyncio.timeout(self._seconds):
                reply = None if self._is_old else await self._put(request, last)
                return await self._put_singly(request, last) if reply is None else reply
        except SchedulerError:
            self.close()  # who talks nonsense may be in the middle of it
            raise
        except TimeoutError as error:
            raise SchedulerError("Unreachable", "the scheduler does not answer in time") from error
        except EOFError as error:
            raise SchedulerError("Unreachable", "the scheduler closes the connection before it has answered") from error
        except OSError as error:
            # A module that is hidden opens no port.
            maybe = ", or it has not loaded the operator's extension" if self._keys else ""
            why = f"the scheduler cannot be reached: {type(error).__name__}{maybe}"
            raise SchedulerError("Unreachable", why) from error

    def close(self) -> None:
        """Close the connection that is kept for the next question; one that is not used for a minute ends by itself."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
        if self._forget is not None:
            self._forget.cancel()

    async def _put(self, request: Request, last: Reply | None) -> Reply | None:
        """All at once; ``None`` if there is no route for that."""
        try:
            if self._keys:
                raw = await self._call_signed(request.limits, request.body)
            else:
                raw = await self._call("ask", request.limits, request.body)
        except SchedulerError as error:
            if error.kind == "NoExtension":
                return None
            raise
        if last is not None and last.request is request and last.raw == raw:
            return last
        said = decoded("ask", raw, SaidForm).answers
        if len(said) != len(request.asks):
            raise unexpected("ask", f"it has {len(said)} answers to {len(request.asks)} questions")
        return Reply(raw, tuple(map(believed, request.asks, said)), request)

    # --- modules of VERSION 3 and older -------------------------------------------------------------------------------

    async def _put_singly(self, request: Request, last: Reply | None) -> Reply:
        """One after the other, by the routes that every module has."""
        state = None
        asked = chain.from_iterable(ask.questions for ask in request.asks)
        if not self._is_old or any(isinstance(question, Idle | Registered) for question in asked):
            text = await self._call("state", Limits(LARGEST_ANSWER, LARGEST_STATE))
            state = decoded("state", text, StateForm)
            self._is_old = True
        answers = tuple([await self._ask_singly(ask, state) for ask in request.asks])
        if last is not None and last.request is request and last.answers == answers:
            return last
        return Reply(b"", answers, request)

    async def _ask_singly(self, ask: Ask, state: StateForm | None) -> Answers:
        limits, said = Limits.of([ask]), dict[str, Any]()
        if state is not None:
            said[Idle.answer_field] = state.idle_seconds
        try:
            for question in ask.questions:
                if isinstance(question, Registered) and state is not None:
                    said[question.answer_field] = registered(state, question.workers)
                elif (route := _ROUTES.get(type(question))) is not None:
                    text = await self._call(route.name, limits, _body(question))
                    whole = decoded(route.name, text, dict[str, Any])
                    found = whole.get(route.answer_field) if route.answer_field else whole
                    if found is not None or question.since is None:
                        said[question.answer_field] = found
            return believed(ask, said)
        except SchedulerError as error:
            return Answers(silent=str(error))

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    async def _call(self, route: str, limits: Limits, body: bytes | None = None) -> bytes:
        """The JSON that a route answers.

        Raises:
            OSError: the scheduler cannot be reached.
            EOFError: it breaks off.
            SchedulerError: it says something else.
        """
        try:
            response = await self._exchange(self._request(f"{self._path}/{route}", body), limits.bytes)
        except ValueError as error:
            raise unexpected(route, str(error)) from error
        if response.status == 404:
            raise SchedulerError("NoExtension", "the scheduler has not loaded the operator's extension")
        return _content(route, response, limits)

    async def _call_signed(self, limits: Limits, body: bytes) -> bytes:
        """The same at the control port; who has none of the keys has not been heard."""
        why = "who answers at the scheduler's address does not have the cluster's key"
        for key in self._keys:
            signed = key.signed(SIGNED_PATH, body, self._clock())
            try:
                response = await self._exchange(self._request(SIGNED_PATH, body, signed.headers), limits.bytes)
            except ValueError as error:
                raise SchedulerError("Impostor", f"{why}: what they say is no answer, {error}") from error
            proof = response.fields.get(PROOF.lower().encode(), b"").decode("latin-1")
            if signed.is_proven(response.status, response.content, proof):
                self._keys = (key, *(other for other in self._keys if other != key))
                return _content("ask", response, limits)
        raise SchedulerError("Impostor", why)

    def _request(self, path: str, body: bytes | None, fields: Mapping[str, str] = {}) -> bytes:
        head = [
            f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
            f"Host: {self._authority}",
            "Accept-Encoding: identity",
            *(f"{name}: {value}" for name, value in fields.items()),
            *(() if body is None else ("Content-Type: application/json", f"Content-Length: {len(body)}")),
        ]
        return "\r\n".join([*head, "\r\n"]).encode() + (body or b"")

    async def _exchange(self, request: bytes, limit: int) -> Response:
        """The answer to a request; raises `ValueError` if it is none or too long."""
        connection = await self._connection()
        try:
            response = await connection.exchange(request, limit)
        except BaseException:
            connection.close()
            raise
        if connection.is_of_use:
            self.close()
            self._kept = connection
            self._forget = asyncio.get_running_loop().call_later(KEEP_SECONDS, self.close)
        else:
            connection.close()
        return response

    async def _connection(self) -> Connection:
        kept, self._kept = self._kept, None
        self.close()
        if kept is not None:
            if kept.is_of_use:
                return kept
            kept.close()
        self._is_old = False
        return await Connection.open(self._host, self._port)


def _content(route: str, response: Response, limits: Limits) -> bytes:
    """What a route has answered; raises `SchedulerError` if that is no success, or too much."""
    status, content, _ = response
    if status != 200:
        raise SchedulerError("Unexpected", f"the scheduler answers {status} to {route}{complaint(content)}")
    if content.count(b",") + content.count(b"[") + content.count(b"{") > limits.values:
        raise unexpected(route, "it says more than it was asked for")
    return content
