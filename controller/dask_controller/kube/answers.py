"""What the API server's answers say, read with care: they may be long, deeply nested, or somebody else's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Raw

from .api import NAMESPACE_TERMINATING, ApiError, Manifest

_T = TypeVar("_T")

#: The API server takes 10,000 levels, in ``managedFields`` from anybody; Python's stack ends before. No field of ours
#: is as deep as this.
_DEEPEST = 200
_NESTING = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[][{}]')


class TooLong(Exception):
    """An answer is longer than whoever asked wants to read."""


async def content_of(response: aiohttp.ClientResponse, longest: int | None) -> bytes:
    """The body.

    Raises:
        TooLong: it has more bytes than ``longest``.
    """
    if longest is None:
        return await response.read()
    chunks: list[bytes] = []
    length = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        length += len(chunk)
        if length > longest:
            raise TooLong
    return b"".join(chunks)


async def lines_of(stream: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """Lines of any length; ``StreamReader.readline`` gives up at 64 KiB, an object may have 1.5 MiB and more."""
    rest = bytearray()
    async for chunk in stream.iter_any():
        head, *lines = chunk.split(b"\n")
        rest += head
        for line in lines:
            if rest:
                yield bytes(rest)
            rest = bytearray(line)


def decoded(content: bytes | Raw, status: int, form: type[_T] = dict[str, Any]) -> _T:  # type: ignore[assignment]
    """What was sent with an HTTP status, as far as ``form`` has a place for it.

    Raises:
        ApiError: it is not JSON; something in between answers in the server's place.
    """
    try:
        try:
            return msgspec.json.decode(content, type=form)
        except RecursionError:
            return msgspec.json.decode(_shallow(bytes(content)), type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(status, "BadAnswer", "what answers is not a Kubernetes API server") from error


def _shallow(content: bytes) -> bytes:
    """JSON with null in the place of what is nested too deeply to be decoded."""
    kept: list[bytes] = []
    start = depth = 0
    for token in _NESTING.finditer(content):
        match content[token.start()]:
            case 0x7B | 0x5B:  # { [
                depth += 1
                if depth == _DEEPEST + 1:
                    kept.append(content[start : token.start()])
            case 0x7D | 0x5D:  # } ]
                depth -= 1
                if depth == _DEEPEST:
                    start = token.end()
    return b"null".join([*kept, content[start:]])


def unreachable(error: BaseException) -> ApiError:
    """No answer. Without the error's text: it may hold parts of the request."""
    return ApiError(0, "Unreachable", f"the API server cannot be reached: {type(error).__name__}")


def refusal(response: aiohttp.ClientResponse, content: bytes) -> ApiError:
    """From the body, a ``Status``; anything else comes from a proxy in between and is not repeated."""
    body: Manifest
    try:
        body = decoded(content, response.status)
    except ApiError:
        body = {}
    status = body if body.get("kind") == "Status" else {}
    error = status_error({**status, "code": response.status})
    if error.reason == "Unknown":
        error.reason = (response.reason or "Unknown").replace(" ", "")
    with contextlib.suppress(KeyError, ValueError):  # absent, or a date
        if (seconds := float(response.headers["Retry-After"])) >= 0:  # `nan` is not
            error.retry_after = seconds
    return error


def status_error(status: Mapping[str, Any]) -> ApiError:
    """The error of a ``Status``."""
    code = int(status.get("code") or 500)
    details = status.get("details") or {}
    message = status.get("message") or f"the API server answered {code}"
    reason = status.get("reason") or "Unknown"
    if any(cause.get("reason") == NAMESPACE_TERMINATING for cause in details.get("causes") or ()):
        reason = NAMESPACE_TERMINATING  # more telling than ``Forbidden``
    return ApiError(code, reason, message, retry_after=details.get("retryAfterSeconds"))
