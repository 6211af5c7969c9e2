"""The API server as the bench uses it: requests without kubectl, and watches that count.

Pods are counted by watching, not by asking again and again: a list of 10,000 costs the API server what others need.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import ssl
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import msgspec
from tests.cluster import ControlPlane

JSON = "application/json"
#: What ``kubectl get`` prints instead of objects: a few words of each.
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
#: Seconds of silence after which the API server may have closed a connection.
IDLE_SECONDS = 20.0

Manifest = dict[str, Any]


class Refused(RuntimeError):
    """The API server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """An API server, as its administrator."""

    def __init__(self, plane: ControlPlane) -> None:
        pki: Path = plane.pki.folder
        self._address = plane.host, plane.port
        self._trust = ssl.create_default_context(cafile=plane.pki.certificate)
        self._trust.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._connection = self.connect()
        self._used = time.monotonic()

    def connect(self) -> http.client.HTTPSConnection:
        """A connection of one's own."""
        return http.client.HTTPSConnection(*self._address, context=self._trust)

    def request(self, method: str, path: str, body: Manifest | None = None, *, accept: str = JSON) -> Manifest:
        """One request; a patch is a merge patch.

        Raises:
            Refused: it was answered with an error.
        """
        if time.monotonic() - self._used > IDLE_SECONDS:
            self._connection.close()  # the next request opens it again
        headers = {"Accept": accept, "Content-Type": "application/merge-patch+json" if method == "PATCH" else JSON}
        self._connection.request(method, path, json.dumps(body) if body else None, headers)
        with self._connection.getresponse() as response:
            answer: Manifest = json.load(response)
        self._used = time.monotonic()
        if response.status >= 300:
            raise Refused(response.status, f"{method} {path}: {answer.get('message')}")
        return answer

    def get(self, path: str) -> Manifest | None:
        """An object or a list; ``None`` if there is no such thing."""
        try:
            return self.request("GET", path)
        except Refused as error:
            if error.status != 404:
                raise
            return None

    def create(self, manifest: Manifest, namespace: str | None = None) -> None:
        """Create an object."""
        self.request("POST", _path(manifest, namespace), manifest)

    def delete(self, manifest: Manifest, namespace: str | None = None) -> None:
        """Delete an object; what belongs to it is deleted after it."""
        self.request("DELETE", f"{_path(manifest, namespace)}/{manifest['metadata']['name']}")


def _path(manifest: Manifest, namespace: str | None) -> str:
    """Of the list that an object is in, whose name is the kind's and an s."""
    version = manifest["apiVersion"]
    path = f"/apis/{version}" if "/" in version else f"/api/{version}"
    path += f"/namespaces/{namespace}" if namespace else ""
    return f"{path}/{manifest['kind'].lower()}s"


# --- watches ----------------------------------------------------------------------------------------------------------


class _Row(msgspec.Struct):
    cells: list[Any]


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = "0"


class _Object(msgspec.Struct):
    """An object, or a table of one row."""

    metadata: _Metadata
    rows: list[_Row] = []
    status: Any = None


class _Event(msgspec.Struct):
    type: str
    object: _Object


class Watch(threading.Thread):
    """Follows a list in a thread, from the moment at which it is made; a context manager that begins and ends it.

    Attributes:
        changed: to wait for what comes.

    Args:
        api: where.
        path: of the list.
        query: selectors.
        accept: in which form.
    """

    _event = msgspec.json.Decoder(_Event)

    def __init__(self, api: Api, path: str, query: dict[str, str], *, accept: str = JSON) -> None:
        super().__init__(daemon=True)
        self.changed = threading.Condition()
        self._failure: BaseException | None = None
        self._ended = False
        self._accept = accept
        self._list = path
        self._query = query
        now = api.request("GET", f"{path}?{urlencode({**query, 'limit': 1})}")["metadata"]["resourceVersion"]
        self._version = int(now)  # None is seen twice and none is missed, however late the thread begins.
        self._connection = api.connect()

    def __enter__(self) -> Self:
        self._ask()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        with contextlib.suppress(OSError, AttributeError):  # it may be opening it again right now
            self._connection.sock.shutdown(socket.SHUT_RDWR)

    def _ask(self) -> None:
        more = {"watch": 1, "allowWatchBookmarks": 1, "resourceVersion": self._version, "timeoutSeconds": 3600}
        path = f"{self._list}?{urlencode({**self._query, **more})}"
        self._connection.request("GET", path, headers={"Accept": self._accept})

    def run(self) -> None:
        """Read until the end; the API server ends a watch that is slow for a moment, which then goes on."""
        try:
            while not self._ended:
                with self._connection.getresponse() as response:
                    self._read(response)
                self._connection.close()
                self._ask()
        except BaseException as error:
            if not self._ended:
                self._failure = error

    def _read(self, response: http.client.HTTPResponse) -> None:
        while line := response.readline():
            now, found = time.monotonic(), self._event.decode(line)
            if response.status != 200 or found.type == "ERROR":
                raise RuntimeError(f"{self._list}: {line.decode()}")
            version = int(found.object.metadata.resource_version)
            with self.changed:
                if found.type != "BOOKMARK":
                    self._note(now, version, found)
                self._version = max(version, self._version)
                self.changed.notify_all()

    def wait(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``holds``, looking after each event; whether it does."""
        with self.changed:
            held = self.changed.wait_for(holds, seconds)
        if self._failure is not None:
            raise RuntimeError("a watch of the bench has ended") from self._failure
        return held

    def _note(self, now: float, version: int, event: _Event) -> None:
        raise NotImplementedError


class Moment(NamedTuple):
    """A number, since when."""

    version: int  #: of the API server's store: says what came first, also between two watches
    time: float  #: at which we heard of it
    number: int


class Pods(Watch):
    """How many Pods there are: by state now, and how many of them lived when.

    Attributes:
        history: numbers of those that live, that is, which nobody has deleted.

    Args:
        api: where.
        namespace: where there.
        labels: selector.
    """

    def __init__(self, api: Api, namespace: str, labels: str) -> None:
        super().__init__(
            api,
            f"/api/v1/namespaces/{namespace}/pods",
            {"labelSelector": labels, "includeObject": "None"},
            accept=TABLE,
        )
        self.history: list[Moment] = []
        self._states: dict[str, str] = {}
        self._numbers: Counter[str] = Counter()
        self._running_since: dict[int, float] = {}

    @property
    def there(self) -> int:
        """How many exist."""
        return len(self._states)

    @property
    def living(self) -> int:
        """How many exist and are not being deleted: what controllers count."""
        return len(self._states) - self._numbers["Terminating"]

    @property
    def running(self) -> int:
        """How many run."""
        return self._numbers["Running"]

    def since(self, running: int) -> float:
        """When so many ran for the first time."""
        return self._running_since[running]

    def _note(self, now: float, version: int, event: _Event) -> None:
        name, _, state, *_ = event.object.rows[0].cells
        lived = self.living
        if name in self._states:
            self._numbers[self._states.pop(name)] -= 1
        if event.type != "DELETED":
            self._states[name] = state
            self._numbers[state] += 1
        if self.living != lived:
            self.history.append(Moment(version, now, self.living))
        self._running_since.setdefault(self.running, now)


class Workloads(Watch):
    """How many Workloads of Kueue have been admitted.

    Args:
        api: where.
        namespace: where there.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        path = f"/apis/kueue.x-k8s.io/v1beta2/namespaces/{namespace}/workloads"
        super().__init__(api, path, {"includeObject": "None"}, accept=TABLE)
        self._there: set[str] = set()
        self._admitted: set[str] = set()
        self._admitted_since: dict[int, float] = {}
        self._seen: dict[str, float] = {}
        self._waits: dict[str, float] = {}

    @property
    def there(self) -> int:
        """How many exist."""
        return len(self._there)

    @property
    def admitted(self) -> int:
        """How many have quota."""
        return len(self._admitted)

    def since(self, admitted: int) -> float:
        """When so many were admitted for the first time."""
        return self._admitted_since[admitted]

    def waited(self) -> float:
        """Seconds from the creation of a Workload until it was admitted, of those that were: the median."""
        return statistics.median(self._waits.values() or [math.inf])

    def _note(self, now: float, version: int, event: _Event) -> None:
        name, _, _, admitted, *_ = event.object.rows[0].cells
        there = event.type != "DELETED"
        (self._there.add if there else self._there.discard)(name)
        (self._admitted.add if there and admitted == "True" else self._admitted.discard)(name)
        self._admitted_since.setdefault(self.admitted, now)
        since = self._seen.setdefault(name, now)
        if name in self._admitted:
            self._waits.setdefault(name, now - since)


class Replicas(Watch):
    """What the status of one object says of its number of Pods, and when it said what.

    Args:
        api: where.
        path: of the list that the object is in.
        name: of the object, which need not exist yet.
    """

    def __init__(self, api: Api, path: str, name: str) -> None:
        super().__init__(api, path, {"fieldSelector": f"metadata.name={name}"})
        self.history: list[Moment] = []

    @property
    def said(self) -> int:
        """The number now; 0 as long as there is none."""
        return self.history[-1].number if self.history else 0

    def _note(self, now: float, version: int, event: _Event) -> None:
        said = (event.object.status or {}).get("replicas") or 0
        if said != self.said:
            self.history.append(Moment(version, now, said))


def greatest_age(truth: Sequence[Moment], said: Sequence[Moment], since: float = 0.0) -> float:
    """How old a status became at most: how long ago its number was true for the last time. Both begin with 0.

    Computed from all changes, so nothing falls between two samples. A number that was never true has no age.

    >>> truth = [Moment(1, 10.0, 1), Moment(2, 11.0, 2), Moment(4, 13.0, 3)]
    >>> greatest_age(truth, [Moment(3, 12.5, 2), Moment(5, 13.5, 3)])
    2.5
    >>> greatest_age(truth, [Moment(3, 12.5, 2), Moment(5, 13.5, 3)], since=13.0)
    0.5
    """
    moments = sorted([(moment, True) for moment in truth] + [(moment, False) for moment in said])
    greatest, true, stated = 0.0, 0, 0
    left: dict[int, float] = {}  # when it ceased to be true
    for moment, is_truth in moments:
        if stated != true and moment.time >= since:  # it is oldest just before something changes
            greatest = max(greatest, moment.time - left.get(stated, moment.time))
        if is_truth:
            left[true], true = moment.time, moment.number
        else:
            stated = moment.number
    return greatest
