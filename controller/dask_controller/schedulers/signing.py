"""Requests that say who asks, and answers that prove who answers: as ``dask_gitops_signing`` of the module has it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

TIME, NONCE, SIGNATURE, PROOF = (f"Dask-Gitops-{name}" for name in ("Time", "Nonce", "Signature", "Proof"))


@dataclass(frozen=True)
class Signed:
    """A request's headers, and what the answer to it must prove.

    Attributes:
        headers: that it has, by name.
    """

    headers: dict[str, str]
    _key: Key
    _nonce: str

    def is_proven(self, status: int, content: bytes, proof: str) -> bool:
        """Whether who answers has the key, too."""
        return hmac.compare_digest(self._key.proof(self._nonce, status, content).encode(), proof.encode())


@dataclass(frozen=True)
class Key:
    """The key of a cluster. It is in no text that is made of this."""

    _value: bytes = field(repr=False)

    def signed(self, path: str, body: bytes, now: float) -> Signed:
        """A request (POST) that is made now, in seconds since the epoch."""
        made_at, nonce = f"{now:.3f}", secrets.token_hex(16)
        signature = self._hmac("dask-gitops request", "POST", path, made_at, nonce, _digest(body))
        return Signed({TIME: made_at, NONCE: nonce, SIGNATURE: signature}, self, nonce)

    def proof(self, nonce: str, status: int, content: bytes) -> str:
        """What the answer with this content to the request with that nonce must have."""
        return self._hmac("dask-gitops answer", nonce, str(status), _digest(content))

    def _hmac(self, *lines: str) -> str:
        return hmac.new(self._value, "\n".join(lines).encode(), hashlib.sha256).hexdigest()


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
