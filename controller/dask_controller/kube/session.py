"""One way to open a session with the API server, for our own client and for whoever else needs one."""

from __future__ import annotations

from typing import Any

import aiohttp

from .credentials import Endpoint

JSON = "application/json"
_META = "g=meta.k8s.io;v=v1"
METADATA = f"{JSON};as=PartialObjectMetadata;{_META}"
METADATA_LIST = f"{JSON};as=PartialObjectMetadataList;{_META}"
TABLE = f"{JSON};as=Table;{_META}"


def open_session(
    endpoint: Endpoint, user_agent: str, *middlewares: aiohttp.ClientMiddlewareType, **options: Any
) -> aiohttp.ClientSession:
    """A session that says who we are with each request; to be closed by the caller.

    Its connections have no limit: watches keep theirs and would use it up.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=endpoint.tls, limit=0),
        headers={"User-Agent": user_agent},
        proxy=endpoint.proxy,
        middlewares=(authenticated(endpoint), *middlewares),
        **options,
    )


def metadata_session(endpoint: Endpoint, user_agent: str) -> aiohttp.ClientSession:
    """A session for a client that lists and watches, and shall see no more than metadata: a spec may be a megabyte."""
    return open_session(endpoint, user_agent, _metadata_only, response_class=_ListOfMetadata)


def authenticated(endpoint: Endpoint) -> aiohttp.ClientMiddlewareType:
    """Says who we are; once more with a fresh token if the first is not accepted (401).

    It raises `ConfigError` if there is no identity.
    """

    async def send(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        request.server_hostname = endpoint.server_name
        for rejected in (False, True):
            header = await endpoint.authorization(rejected=rejected)
            if header:
                request.headers["Authorization"] = header
            response = await handler(request)
            if response.status != 401 or rejected or not header:
                break
            response.release()
        return response

    return send


async def _metadata_only(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    if request.method == "GET":  # kopf also writes: it takes away finalizers of an operator that used it fully
        request.headers["Accept"] = METADATA if "watch" in request.url.query else f"{METADATA_LIST},{JSON}"
    return await handler(request)


class _ListOfMetadata(aiohttp.ClientResponse):
    """An answer whose list is one though nothing is in it: the API server says null then, of metadata only."""

    async def json(self, **options: Any) -> Any:
        answer = await super().json(**options)
        if isinstance(answer, dict) and "items" in answer:
            answer["items"] = answer["items"] or []
        return answer
