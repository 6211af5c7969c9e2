"""What the Pods of a namespace ask for together, at every moment that the API server knows of."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from bench.api import Api

from tests.support.queues import milli

#: A Pod that asks for nothing and that nobody schedules: when a watch tells of it, it has told of all before it.
_MARK = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "mark-"},
    "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "nothing:1"}]},
}
_SECONDS = 30.0


class Event(NamedTuple):
    """What a watch has told."""

    seconds: float  #: when, since the beginning
    type: str  #: ADDED, MODIFIED, DELETED
    manifest: Mapping[str, Any]


class Watch:
    """A context in which the objects of a list are followed in a thread.

    Attributes:
        events: all that was told, what was there at the beginning first.

    Args:
        api: where.
        path: of the list.
    """

    def __init__(self, api: Api, path: str) -> None:
        self._api, self._path = api, path
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._connection = api.connect()
        self._began = time.monotonic()
        self.events: list[Event] = []

    def __enter__(self) -> Self:
        found = self._api.request("GET", self._path)
        for manifest in found["items"]:
            self._note("ADDED", manifest)
        version = found["metadata"]["resourceVersion"]
        self._connection.request("GET", f"{self._path}?watch=1&resourceVersion={version}&timeoutSeconds=3600")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _follow(self) -> None:
        # It is cut at the end; who must know that it was not before waits for something to be told.
        with contextlib.suppress(OSError), self._connection.getresponse() as response:
            while line := response.readline():
                event = json.loads(line)
                with self._changed:
                    self._note(event["type"], event["object"])
                    self._changed.notify_all()

    def _note(self, type: str, manifest: Mapping[str, Any]) -> None:
        self.events.append(Event(time.monotonic() - self._began, type, manifest))


class Quota(Watch):
    """A context in which Pods never ask for more than ``most``, by every event of a watch; those that go count, too.

    Args:
        api: where.
        namespace: whose Pods.
        most: thousandths of a CPU.

    Raises:
        AssertionError: at the end, if they have.
    """

    def __init__(self, api: Api, namespace: str, most: int) -> None:
        super().__init__(api, f"/api/v1/namespaces/{namespace}/pods")
        self._most = most
        self._asked: dict[str, tuple[str, int]] = {}
        self._over: list[str] = []

    def __exit__(self, kind: object = None, *_: object) -> None:
        try:
            if kind is None:
                self._all_seen()
        finally:
            super().__exit__()
        if kind is None:
            assert not self._over, "\n".join(self._over[:5])

    def _all_seen(self) -> None:
        mark = self._api.request("POST", self._path, _MARK)["metadata"]
        with self._changed:
            told = self._changed.wait_for(
                lambda: any(e.manifest["metadata"]["uid"] == mark["uid"] for e in self.events), _SECONDS
            )
        self._api.request("DELETE", f"{self._path}/{mark['name']}")
        assert told, "the watch has come to an end"

    def _note(self, type: str, pod: Mapping[str, Any]) -> None:
        super()._note(type, pod)
        metadata = pod["metadata"]
        finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if type == "DELETED" or finished:
            self._asked.pop(metadata["uid"], None)
            return
        requests = [c.get("resources", {}).get("requests", {}) for c in pod["spec"]["containers"]]
        self._asked[metadata["uid"]] = metadata["name"], sum(milli(each.get("cpu", "0m")) for each in requests)
        asked = sum(cpu for _, cpu in self._asked.values())
        if asked > self._most:
            self._over.append(f"{asked}m of {self._most}m at version {metadata['resourceVersion']}: {self._asked}")
