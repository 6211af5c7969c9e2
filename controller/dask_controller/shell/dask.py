"""The client of the scheduler's module (``dask_resources.scheduler_extension``).

A scheduler runs what users send, so it is a stranger: what it says costs no more memory and time than the question
calls for, and of an answer only what was asked for is taken.

HTTP is spoken here rather than by aiohttp, whose client reads on where nobody waits for anything: a peer that goes on
talking after its answer costs 100 MiB a second, one that says "102 Processing" without end most of a core for as long
as the answer may take. Here both cost a connection (``docs/decisions/0003-scheduler-extension.md``).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from ..core.actions import Answers, Ask, Progress, Versions, WorkerId

PREFIX = "/dask-gitops/v1"

#: Bytes of an answer: so many for each ask, so many for each name in it, and never more than the last.
ASK_BYTES, NAME_BYTES, LARGEST_ANSWER = 16 * 2**10, 512, 3 * 2**20
#: Values in its JSON, likewise: one byte of JSON can become fifty in memory. The last is for a scheduler's whole state.
ASK_VALUES, NAME_VALUES, LARGEST_STATE = 1_000, 4, 200_000
#: Bytes of an answer's head, and of the explanation of a status other than 200.
HEAD_BYTES = 16 * 2**10
#: Bytes that the kernel keeps for us of what is sent unasked.
RECEIVE_BYTES = 128 * 2**10
#: How long a connection may take to come about: in one cluster that is milliseconds, or never.
CONNECT_SECONDS = 2.0
#: How long a connection is kept for the next question; who routes it may forget it after some minutes of silence.
KEEP_SECONDS = 60.0
#: Characters of what people read, and of a version or a package's name; packages in a set, and sets of versions.
WORDS_LENGTH, VERSION_LENGTH, MOST_VERSIONS = 200, 64, 32

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: |$)")

_T = TypeVar("_T")


class SchedulerError(Exception):
    """There is no usable answer from the scheduler; the message is for people.

    Attributes:
        kind: ``Unreachable``: no answer; it may just be starting. ``NoExtension``: it answers, but has not loaded the
            module, as where ``--preload`` in a shell script hides it; distributed's own HTTP API would not help, as it
            is off by default and knows no groups. ``Unexpected``: it answers otherwise than agreed.
    """

    def __init__(self, kind: Literal["Unreachable", "NoExtension", "Unexpected"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Limits(NamedTuple):
    """How large an answer may be."""

    bytes: int
    values: int

    @classmethod
    def of(cls, asks: Sequence[Ask]) -> _Limits:
        """As large as these call for."""
        names = sum(len(ask.registered) + len(ask.rank) + len(ask.retire) + len(ask.resume) for ask in asks)
        size = ASK_BYTES * (1 + len(asks)) + NAME_BYTES * names
        return cls(min(LARGEST_ANSWER, size), ASK_VALUES * (1 + len(asks)) + NAME_VALUES * names)


class Question:
    """What is put to one scheduler: encoded once, sent many times.

    Attributes:
        asks: what is to be known.
        body: the same in JSON, as the module's route ``ask`` takes it.
        limits: of the answer.
    """

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.asks = tuple(asks)
        self.body = msgspec.json.encode({"questions": [_encodable(ask) for ask in self.asks]})
        self.limits = _Limits.of(self.asks)


class Reply(msgspec.Struct, frozen=True):
    """What a scheduler said.

    Attributes:
        raw: the JSON; empty if it took several requests.
        answers: one for each ``Ask`` of the question.
        question: that it answers.
    """

    raw: bytes
    answers: tuple[Answers, ...]
    question: Question | None = None


class Scheduler:
    """One scheduler, asked one question at a time.

    Args:
        url: of its dashboard's port, ``http``.
        timeout_seconds: for an answer; it comes from memory, so longer means that the scheduler is stuck.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 5.0) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path, self._authority = parts.path.rstrip("/") + PREFIX, parts.netloc
        self._seconds = timeout_seconds
        self._kept: _Connection | None = None
        self._forget: asyncio.TimerHandle | None = None
        self._is_old = False  #: its module has no route ``ask``; a restart, which ends connections, may change that

    async def put(self, question: Question, last: Reply | None = None) -> Reply:
        """The answers to a question.

        Args:
            question: what is asked.
            last: the last reply; returned as it is, undecoded, where the scheduler says the same again.

        Raises:
            SchedulerError: there is none, or none that makes sense.
        """
        try:
            async with asyncio.timeout(self._seconds):
                reply = None if self._is_old else await self._put(question, last)
                return await self._put_singly(question, last) if reply is None else reply
        except SchedulerError:
            self.close()  # who talks nonsense may be in the middle of it
            raise
        except TimeoutError as error:
            raise SchedulerError("Unreachable", "the scheduler does not answer in time") from error
        except EOFError as error:
            raise SchedulerError("Unreachable", "the scheduler closes the connection before it has answered") from error
        except OSError as error:
            raise SchedulerError("Unreachable", f"the scheduler cannot be reached: {type(error).__name__}") from error

    def close(self) -> None:
        """Close the connection that is kept for the next question; one that is not used for a minute ends by itself."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
        if self._forget is not None:
            self._forget.cancel()

    async def _put(self, question: Question, last: Reply | None) -> Reply | None:
        """All at once; ``None`` if there is no route for that."""
        try:
            raw = await self._call("ask", question.limits, question.body)
        except SchedulerError as error:
            if error.kind == "NoExtension":
                return None
            raise
        if last is not None and last.question is question and last.raw == raw:
            return last
        said = _decoded("ask", raw, _Said).answers
        if len(said) != len(question.asks):
            raise _unexpected("ask", f"it has {len(said)} answers to {len(question.asks)} questions")
        return Reply(raw, tuple(map(_answers, question.asks, said)), question)

    # --- modules of VERSION 3 and older -------------------------------------------------------------------------------

    async def _put_singly(self, question: Question, last: Reply | None) -> Reply:
        """One after the other, by the routes that every module has."""
        state = None
        if not self._is_old or any(ask.idle or ask.registered for ask in question.asks):
            text = await self._call("state", _Limits(LARGEST_ANSWER, LARGEST_STATE))
            state = _decoded("state", text, _State)
            self._is_old = True
        answers = tuple([await self._ask_singly(ask, state) for ask in question.asks])
        if last is not None and last.question is question and last.answers == answers:
            return last
        return Reply(b"", answers, question)

    async def _ask_singly(self, ask: Ask, state: _State | None) -> Answers:
        limits = _Limits.of([ask])

        async def told(route: str, **body: Any) -> dict[str, Any]:
            text = await self._call(route, limits, msgspec.json.encode(body) if body else None)
            return _decoded(route, text, dict[str, Any])

        try:
            said: dict[str, Any] = {}
            if ask.resume and (found := (await told("resume", workers=_wire(ask.resume))).get("workers")) is not None:
                said["resumption"] = found
            if state is not None:
                said |= {"idle_seconds": state.idle_seconds, "registered": _registered(state, ask.registered)}
            if ask.progress:
                said["progress"] = await told("progress")
            if ask.versions:
                said["versions"] = await told("versions")
            if ask.rank:
                said["ranked"] = (await told("workers_to_close", workers=_wire(ask.rank))).get("workers")
            if ask.target:
                target = _wire(ask.target)
                others = {"before": target["before"], "after": target["after"]}
                said["target"] = (await told("adaptive_target", **target["group"], **others)).get("target")
            if ask.retire:
                said["retirement"] = (await told("retire", workers=_wire(ask.retire))).get("workers")
            return _answers(ask, said)
        except SchedulerError as error:
            return Answers(silent=str(error))

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    async def _call(self, route: str, limits: _Limits, body: bytes | None = None) -> bytes:
        """The JSON that a route answers.

        Raises:
            OSError: the scheduler cannot be reached.
            EOFError: it breaks off.
            SchedulerError: it says something else.
        """
        head = [
            f"{'GET' if body is None else 'POST'} {self._path}/{route} HTTP/1.1",
            f"Host: {self._authority}",
            "Accept-Encoding: identity",
            *(() if body is None else ("Content-Type: application/json", f"Content-Length: {len(body)}")),
        ]
        request = "\r\n".join([*head, "\r\n"]).encode() + (body or b"")
        try:
            status, content = await self._exchange(request, limits.bytes)
        except ValueError as error:
            raise _unexpected(route, str(error)) from error
        if status == 404:
            raise SchedulerError("NoExtension", "the scheduler has not loaded the operator's extension")
        if status != 200:
            raise SchedulerError("Unexpected", f"the scheduler answers {status} to {route}{_complaint(content)}")
        if content.count(b",") + content.count(b"[") + content.count(b"{") > limits.values:
            raise _unexpected(route, "it says more than it was asked for")
        return content

    async def _exchange(self, request: bytes, limit: int) -> tuple[int, bytes]:
        """The status and the content of the answer to a request; raises `ValueError` if it is none or too long."""
        connection = await self._connection()
        try:
            status, content = await connection.exchange(request, limit)
        except BaseException:
            connection.close()
            raise
        if connection.is_of_use:
            self.close()
            self._kept = connection
            self._forget = asyncio.get_running_loop().call_later(KEEP_SECONDS, self.close)
        else:
            connection.close()
        return status, content

    async def _connection(self) -> _Connection:
        kept, self._kept = self._kept, None
        self.close()
        if kept is not None:
            if kept.is_of_use:
                return kept
            kept.close()
        self._is_old = False
        return await _Connection.open(self._host, self._port)


class _Connection:
    """A connection for one request after the other, from which no more is read than somebody waits for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._ends = False

    @classmethod
    async def open(cls, host: str, port: int) -> _Connection:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, limit=HEAD_BYTES)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        return cls(reader, writer)

    @property
    def is_of_use(self) -> bool:
        """Whether another request can be sent."""
        unsent = self._writer.transport.get_write_buffer_size()
        return not (self._ends or unsent or self._reader.at_eof() or self._writer.is_closing())

    def close(self) -> None:
        """At once, whatever there is still to say."""
        self._writer.transport.abort()

    async def exchange(self, request: bytes, limit: int) -> tuple[int, bytes]:
        """The status and the content of the answer; of one that is no success only a short content."""
        self._writer.write(request)  # the answer will tell whether it has arrived
        status, fields = await self._head()
        length = fields.get(b"content-length", b"")
        size = int(length) if length.isdigit() and len(length) < 10 else None
        if status == 200:
            # The module sends what it has ready as it is. In chunks, or packed, a little could become much.
            if size is None:
                raise ValueError("its length is not told")
            if fields.get(b"content-encoding", b"identity") != b"identity":
                raise ValueError("it is packed")
            if size > limit:
                raise ValueError("it is longer than the question calls for")
        elif size is None or size > HEAD_BYTES:
            self._ends = True
            size = 0
        return status, await self._reader.readexactly(size)

    async def _head(self) -> tuple[int, dict[bytes, bytes]]:
        try:
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        except asyncio.LimitOverrunError:
            raise ValueError("its head is too long") from None
        found = _STATUS.match(first)
        if found is None:
            raise ValueError("it is not HTTP")
        fields = {name.lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in lines)}
        self._ends = found[1] == b"0" or fields.get(b"connection") == b"close"
        return int(found[2]), fields


# --- what is taken of an answer ---------------------------------------------------------------------------------------

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class _Said(msgspec.Struct):
    answers: list[dict[str, Any]]


class _Progress(msgspec.Struct):
    total: _Count
    done: _Count
    workers: _Count


class _Process(msgspec.Struct, gc=False):
    name: str
    host: str


class _State(msgspec.Struct):
    idle_seconds: Any
    workers: list[_Process]


class _Complaint(msgspec.Struct):
    message: str


class _Part(NamedTuple):
    """A field of ``Ask``, and that of ``Answers`` with what is said to it."""

    asked: str
    said: str
    form: Any  #: that it must have
    taken: Callable[[Any, Any], Any]  #: of what is said, and of what was asked
    new: bool = False  #: whether a module of ``VERSION`` 4 or older does without


def _notes(notes: Mapping[str, str], asked: Iterable[WorkerId]) -> dict[str, str]:
    return {name: _words(notes[name]) for name in _asked_for(notes, asked)}


_PARTS = (
    _Part("resume", "resumption", dict[str, str], _notes, new=True),
    _Part("idle", "idle_seconds", _Seconds | None, lambda seconds, _: seconds),
    _Part("progress", "progress", _Progress, lambda found, _: Progress(found.total, found.done, found.workers)),
    _Part("versions", "versions", Versions, lambda found, _: _readable(found)),
    _Part("registered", "registered", list[str], lambda names, asked: frozenset(_asked_for(names, asked))),
    _Part("rank", "ranked", list[str], lambda names, asked: tuple(_asked_for(names, asked))),
    _Part("retire", "retirement", dict[str, str], _notes),
    _Part("target", "target", _Count, lambda number, _: number),
)


def _encodable(ask: Ask) -> dict[str, Any]:
    """What a scheduler is told of an ask: what is asked for, not how often and the like."""
    return {part.asked: _wire(asked) for part in _PARTS if (asked := getattr(ask, part.asked))}


def _wire(asked: Any) -> Any:
    """What is asked, as the module takes it."""
    if isinstance(asked, WorkerId):
        # The first one is for modules that know of no others; Dask prefers IPv4 where a Pod has both.
        first = next((ip for ip in asked.ips if ":" not in ip), next(iter(asked.ips), ""))
        others = {"ips": asked.ips} if len(asked.ips) > 1 else {}
        return {"name": asked.name, "ip": first, **others}
    if isinstance(asked, msgspec.Struct):
        return {field: _wire(value) for field, value in msgspec.structs.asdict(asked).items()}
    return [_wire(value) for value in asked] if isinstance(asked, tuple | list) else asked


def _answers(ask: Ask, said: Mapping[str, Any]) -> Answers:
    """What is believed of what is said.

    Raises:
        SchedulerError: it lacks what was asked for, or that makes no sense.
    """
    if isinstance(error := said.get("error"), str):
        return Answers(silent=f"the scheduler cannot answer: {_words(error)}")
    taken = {}
    for part in _PARTS:
        if asked := getattr(ask, part.asked):
            if part.said not in said:
                if part.new:
                    continue
                raise _unexpected("ask", f"{part.said} is missing")
            try:
                taken[part.said] = part.taken(msgspec.convert(said[part.said], part.form), asked)
            except (ValueError, OverflowError, RecursionError) as problem:
                raise _unexpected("ask", f"{part.said}: {problem}") from problem
    return Answers(**taken)


def _asked_for(names: Iterable[str], workers: Iterable[WorkerId]) -> Iterable[str]:
    """Those of the names that were asked for, once each and in their order."""
    asked = {worker.name for worker in workers}
    return (name for name in dict.fromkeys(names) if name in asked)


#: A name that the operator has given to a worker, and what may follow it: the number of a process, say.
_OWN_NAME = re.compile(r"(.*-worker-[0-9]+-[0-9a-f]{5})(?:-.*)?", re.DOTALL)


def _registered(state: _State, workers: Iterable[WorkerId]) -> list[str]:
    """Names of the Pods of which a scheduler knows a worker, as later modules find them.

    By name, by ``<name>-<n>``, or by an address that is the Pod's alone: one where a worker is that has its name from
    us is that other Pod's, too.
    """
    known, shared = set[str](), set[str]()
    for process in state.workers:
        head, _, tail = process.name.rpartition("-")
        known |= {process.name, head} if tail.isdecimal() else {process.name}
        if own := _OWN_NAME.fullmatch(process.name):
            known.add(own[1])
            shared.add(_canonical(process.host))
    unnamed = {worker.name: set(map(_canonical, worker.ips)) for worker in workers if worker.name not in known}
    claims = Counter(ip for ips in unnamed.values() for ip in ips)
    shared |= {ip for ip, count in claims.items() if count > 1}
    hosts = {_canonical(process.host) for process in state.workers} - shared if claims else set[str]()
    return [worker.name for worker in workers if worker.name in known or unnamed[worker.name] & hosts]


def _canonical(host: str) -> str:
    """An address in the one form of several that it has."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)


def _readable(versions: Versions) -> Versions:
    def sets(found: Sequence[Mapping[str, str]]) -> tuple[dict[str, str], ...]:
        return tuple(
            {_words(name, VERSION_LENGTH): _words(version, VERSION_LENGTH) for name, version in some}
            for some in (islice(packages.items(), MOST_VERSIONS) for packages in found[:MOST_VERSIONS])
        )

    return Versions(sets(versions.scheduler), sets(versions.workers), sets(versions.clients))


def _words(text: str, length: int = WORDS_LENGTH) -> str:
    """The beginning of what a stranger says, without the characters that a terminal or a log would obey."""
    return "".join(character if character.isprintable() else " " for character in text[:length])


def _decoded(route: str, text: bytes, form: type[_T]) -> _T:
    try:
        return msgspec.json.decode(text, type=form)
    except (ValueError, RecursionError) as error:
        raise _unexpected(route, str(error)) from error


def _complaint(content: bytes) -> str:
    try:
        message = msgspec.json.decode(content, type=_Complaint).message
    except (ValueError, RecursionError):
        return ""
    return f": {_words(message)}"


def _unexpected(route: str, why: str) -> SchedulerError:
    return SchedulerError("Unexpected", f"the scheduler's answer to {route} is not as agreed: {_words(why)}")
