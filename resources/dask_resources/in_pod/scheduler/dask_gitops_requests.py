"""What a request may say: bodies are checked, bounded and read into Pods and groups.

Others than the operator can reach the port, and the scheduler's time belongs to its users.
"""

from __future__ import annotations

import math
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple

MOST_BYTES = 4 * 2**20  #: in a request
MOST_QUESTIONS = 1_000
MOST_NAMES = 20_000  #: of workers, in one list
MOST_ADDRESSES = 8  #: of a worker


class Malformed(ValueError):
    """A request is not as it should be."""

    status = 400


class TooLong(Malformed):
    """A request has more bytes than it may have."""

    status = 413


class Forbidden(Malformed):
    """An order that nobody has signed."""

    status = 403

    def __init__(self) -> None:
        super().__init__("this scheduler takes orders at its control port only, and signed")


class Pod(NamedTuple):
    """A worker Pod as the operator knows it: its worker's name, and its addresses, if any."""

    name: str
    ips: tuple[str, ...] = ()
    owns_ips: bool = True  #: whether the addresses are known to be its own; otherwise other Pods may share them


class Group(NamedTuple):
    """A worker group as the operator knows it."""

    workers: list[Pod]
    resources: dict[str, float] = {}  #: that each process offers, as far as is known before one has started
    threads: float = 1  #: of each of its Pods, likewise
    processes: float = 1  #: of each of its Pods, likewise
    minimum: int = 0
    maximum: float = math.inf


class Groups(NamedTuple):
    """The groups of a cluster in the order in which they are filled."""

    before: list[Group]
    own: Group  #: the one that is asked about
    after: list[Group]


def read_groups(own: Any, others: dict[str, Any]) -> Groups:
    """The group described by ``own``, among those ``before`` and ``after`` it in ``others``."""
    before, after = (read_list(others, side, MOST_QUESTIONS) for side in ("before", "after"))
    if sum(len(read_list(group, "workers", MOST_NAMES)) for group in (own, *before, *after)) > MOST_NAMES:
        raise Malformed(f"the groups have at most {MOST_NAMES:,} workers together")
    return Groups([_read_group(group) for group in before], _read_group(own), [_read_group(group) for group in after])


def _read_group(body: Any) -> Group:
    body, workers = read_object(body, "a group is an object"), read_pods(body)
    resources = body.get("resources") or {}
    if not (isinstance(resources, dict) and all(map(is_number, resources.values()))):
        raise Malformed("resources are numbers by name")
    counts = ("threads", "processes", "minimum", "maximum")
    numbers = {name: body[name] for name in counts if body.get(name) is not None}
    if not all(is_number(number) and number >= 0 for number in numbers.values()) or 0 in map(numbers.get, counts[:2]):
        raise Malformed("threads, processes, minimum and maximum are numbers, none below 0, and the former above it")
    return Group(workers, resources, **numbers)


def read_pods(body: Any, field: str = "workers") -> list[Pod]:
    """The Pods in the list ``field``."""
    return [_read_pod(worker) for worker in read_list(body, field, MOST_NAMES)]


def _read_pod(worker: Any) -> Pod:
    if isinstance(worker, str):
        worker = {"name": worker}
    name, ips = None, []
    if isinstance(worker, dict):
        name, ips = worker.get("name"), [worker.get("ip") or "", *read_list(worker, "ips", MOST_ADDRESSES)]
    if not (name and isinstance(name, str) and all(isinstance(ip, str) and len(ip) < 64 for ip in ips)):
        raise Malformed('a worker is a name or {"name": ..., "ip": ..., "ips": [...]}')
    return Pod(name, tuple(dict.fromkeys(canonical(ip) for ip in ips if ip)))


def read_object(value: Any, otherwise: str) -> dict[str, Any]:
    """A JSON object; ``otherwise`` is the message if it is something else."""
    if not isinstance(value, dict):
        raise Malformed(otherwise)
    return value


def read_list(body: Any, field: str, most: int) -> list[Any]:
    """The list ``field`` of an object, of at most ``most`` items; empty if it is missing."""
    found = read_object(body, f"expected an object with {field}").get(field)
    if not isinstance(found, list | None):
        raise Malformed(f"{field} is a list")
    if found and len(found) > most:
        raise Malformed(f"{field} has at most {most:,} items")
    return found or []


def is_number(value: Any) -> bool:
    """Whether one can compute with it: no ``NaN``, no infinity, no integer of a thousand digits."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


@lru_cache(maxsize=4096)
def canonical(host: str) -> str:
    """An address, of which there are several spellings, in one of them."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)
