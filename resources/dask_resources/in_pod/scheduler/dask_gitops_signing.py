"""Who asks, and who answers: requests and answers are signed with the key of the cluster, which never travels.

A request has three headers: when it was made, a number that was never used before, and its signature (HMAC-SHA256). The
answer to one that is signed has the proof that whoever answers has the key, too. The operator and the hooks of workers
make the same signatures; ``docs/decisions/0013-control-port.md``.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from dask_gitops_requests import Malformed

#: Names the file with the key; where it is set, nobody changes anything unsigned, whether the file is there or not.
KEY_FILE_VARIABLE = "DASK_GITOPS_KEY_FILE"
TIME, NONCE, SIGNATURE, PROOF = (f"Dask-Gitops-{name}" for name in ("Time", "Nonce", "Signature", "Proof"))

CLOCKS_SECONDS = 60.0  #: by which clocks may differ, and for which a request can be used
MOST_NONCES = 100_000  #: that are remembered, of the last two minutes
KEY_BYTES = 32

_FORMS = {TIME: r"[0-9]{1,12}(\.[0-9]{1,6})?", NONCE: r"[0-9a-f]{32}", SIGNATURE: r"[0-9a-f]{64}"}


class Refused(Malformed):
    """Nothing is done for who has not signed, or not as agreed."""

    status = 401


class Busy(Malformed):
    """There are more requests than can be remembered, or no key yet."""

    status = 503


class Proven(NamedTuple):
    """A request that somebody with the key has signed."""

    key: bytes
    nonce: str
    made_at: float

    def proof(self, status: int, body: bytes) -> str:
        """Of an answer to it."""
        return _hmac(self.key, "dask-gitops answer", self.nonce, str(status), _digest(body))


def signature(key: bytes, method: str, path: str, made_at: str, nonce: str, body: bytes) -> str:
    """Of a request."""
    return _hmac(key, "dask-gitops request", method, path, made_at, nonce, _digest(body))


def _hmac(key: bytes, *lines: str) -> str:
    return hmac.new(key, "\n".join(lines).encode(), hashlib.sha256).hexdigest()


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Guard:
    """Lets in who has the key of the cluster, each request once.

    Args:
        file: with the key. It is read again when it has changed: the kubelet renews it in Pods that run.
        now: seconds since the epoch.
    """

    def __init__(self, file: str, now: Callable[[], float] = time.time) -> None:
        self._file, self._now = file, now
        #: No request of before is good any more: those that were used then are forgotten.
        self._started = now()
        self._seen: dict[int, set[str]] = {}  # nonces, by the second in which their requests were made
        self._read: tuple[object, bytes | None] = (None, None)

    @classmethod
    def from_environment(cls) -> Guard | None:
        """The one that this Pod is to have, if any."""
        file = os.environ.get(KEY_FILE_VARIABLE)
        return cls(file) if file else None

    def proven(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Proven:
        """Whoever made this request has the key; whether it is of use `admit` tells.

        Raises:
            Refused: they do not.
            Busy: there is no key to tell by.
        """
        given = {name: headers.get(name) or "" for name in _FORMS}
        if not all(re.fullmatch(form, given[name], re.ASCII) for name, form in _FORMS.items()):
            raise Refused(f"expected {TIME}, {NONCE} and {SIGNATURE}")
        key = self._key()
        made = signature(key, method, path, given[TIME], given[NONCE], body)
        if not hmac.compare_digest(made, given[SIGNATURE]):
            raise Refused("it is not signed with the key of this cluster")
        return Proven(key, given[NONCE], float(given[TIME]))

    def admit(self, request: Proven) -> None:
        """Take note of a request.

        Raises:
            Refused: it is too old or from the future, or was here already.
            Busy: there are too many to remember.
        """
        now = self._now()
        if abs(request.made_at - now) > CLOCKS_SECONDS:
            apart = f"the request is of {_utc(request.made_at)}, and here it is {_utc(now)}"
            raise Refused(f"the clocks of two nodes differ by more than {CLOCKS_SECONDS:.0f} s: {apart}")
        if request.made_at < self._started:
            raise Refused("the request was made before the scheduler started")
        for second in [second for second in self._seen if second < int(now - CLOCKS_SECONDS)]:
            del self._seen[second]
        nonces = self._seen.setdefault(int(request.made_at), set())
        if request.nonce in nonces:
            raise Refused("the request was made before")
        if sum(map(len, self._seen.values())) >= MOST_NONCES:
            raise Busy("there are too many requests")
        nonces.add(request.nonce)

    def _key(self) -> bytes:
        try:
            found = os.stat(self._file)
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            if version != self._read[0]:
                with open(self._file, "rb") as file:
                    self._read = (version, file.read(KEY_BYTES + 1))
        except OSError as error:
            self._read = (None, None)
            raise Busy(f"this Pod has no key yet: {type(error).__name__}") from None
        key = self._read[1]
        if key is None or len(key) != KEY_BYTES:
            raise Busy(f"the key of this Pod is not one of {KEY_BYTES} bytes")
        return key


def _utc(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "no time at all"
