"""Who may see what we serve: the API server says whose a token is, and what that user may do.

As controller-runtime guards metrics: https://book.kubebuilder.io/reference/metrics. Who asks needs ``get`` on the path.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from .api import ApiError, Manifest

logger = logging.getLogger(__name__)

#: How long a yes is believed, and of how many: a token that is taken back is good for as long.
BELIEVED_SECONDS = 60.0
BELIEVED = 256
#: How many are reviewed at a time: strangers with made-up tokens must not take the API server's time, nor ours.
REVIEWS = 2
#: How often the files of a certificate are looked at.
LOOK_SECONDS = 10.0

_BEARER = "bearer "


class Reviewer(Protocol):
    """The API server."""

    async def review(self, kind: str, spec: dict[str, Any]) -> Manifest:
        """See `Kubernetes.review`."""


class Access:
    """Decides about requests by their tokens."""

    def __init__(self, server: Reviewer) -> None:
        self._server = server
        self._turn = asyncio.Semaphore(REVIEWS)
        self._believed: dict[bytes, float] = {}

    async def __call__(self, authorization: str, path: str) -> HTTPStatus:
        """OK; or 401 for whom nobody knows, 403 for who may not, 503 if the API server does not say."""
        token = authorization[len(_BEARER) :].strip()
        if not token or not authorization.lower().startswith(_BEARER):
            return HTTPStatus.UNAUTHORIZED
        asked = hashlib.sha256(f"{path} {token}".encode()).digest()
        if self._believed.get(asked, 0.0) > asyncio.get_running_loop().time():
            return HTTPStatus.OK
        try:
            async with self._turn:
                status = await self._reviewed(token, path)
        except ApiError as error:
            logger.warning("whether somebody may see %s is not known: %s", path, error)
            return HTTPStatus.SERVICE_UNAVAILABLE
        if status == HTTPStatus.OK:
            self._believe(asked)
        return status

    async def _reviewed(self, token: str, path: str) -> HTTPStatus:
        found = await self._server.review("TokenReview", {"token": token})
        if not found.get("authenticated"):
            return HTTPStatus.UNAUTHORIZED
        user = found.get("user") or {}
        spec = {
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "nonResourceAttributes": {"path": path, "verb": "get"},
        }
        said = await self._server.review("SubjectAccessReview", spec)
        return HTTPStatus.OK if said.get("allowed") and not said.get("denied") else HTTPStatus.FORBIDDEN

    def _believe(self, asked: bytes) -> None:
        self._believed.pop(asked, None)  # the oldest comes first
        self._believed[asked] = asyncio.get_running_loop().time() + BELIEVED_SECONDS
        while len(self._believed) > BELIEVED:
            del self._believed[next(iter(self._believed))]


class Certificate:
    """A server's certificate in a folder, as a Secret of the type ``kubernetes.io/tls`` is mounted; renewed as it is.

    Raises:
        OSError: there is none, or it is unusable (``ssl.SSLError``).
    """

    def __init__(self, folder: Path) -> None:
        self._files = (folder / "tls.crt", folder / "tls.key")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._loaded = self._content()
        self.context.load_cert_chain(*self._files)

    async def keep(self) -> None:
        """Go on for ever, and use what is in the folder; who is connected stays so."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                found = self._content()
                if found != self._loaded:
                    self.context.load_cert_chain(*self._files)
                    self._loaded = found
            except OSError as error:
                logger.warning("the certificate in %s cannot be used: %s", self._files[0].parent, error)

    def _content(self) -> tuple[bytes, ...]:
        return tuple(file.read_bytes() for file in self._files)
