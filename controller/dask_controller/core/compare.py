"""Whether a live object has what is stated: what the API server or others added does not matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: By which fields the members of a list are told apart, the first that all have; others are compared by their places.
_KEYS = (
    ("name",),
    ("mountPath",),
    ("devicePath",),
    ("containerPort", "protocol"),
    ("port", "protocol"),
    ("topologyKey", "whenUnsatisfiable"),
    ("ip",),
)
#: What the API server takes for a key that is left out.
_LEFT_OUT = {"protocol": "TCP"}


def contains(live: Any, desired: Any) -> bool:
    """Whether ``live`` has all that ``desired`` says; what the API server or others added does not matter."""
    if isinstance(desired, Mapping):
        return isinstance(live, Mapping) and all(key in live and contains(live[key], desired[key]) for key in desired)
    if isinstance(desired, list):
        pairs = _pairs(live, desired)
        return pairs is not None and all(contains(a, b) for a, b in pairs)
    return bool(live == desired)


def picked(stored: Any, stated: Any) -> Any:
    """Of ``stored`` just the fields that ``stated`` has."""
    if isinstance(stated, Mapping) and isinstance(stored, Mapping):
        return {key: picked(stored[key], stated[key]) for key in stated if key in stored}
    if isinstance(stated, list) and isinstance(stored, list):
        pairs = _pairs(stored, stated)
        return stored if pairs is None else [picked(a, b) for a, b in pairs]
    return stored


def _pairs(live: Any, desired: list[Any]) -> Iterable[tuple[Any, Any]] | None:
    """Each member of ``desired`` with that of ``live`` which it is about; ``None`` if that is not there."""
    if not isinstance(live, list):
        return None
    for fields in _KEYS:
        names_of = [_key(item, fields) if isinstance(item, Mapping) else () for item in desired]
        if desired and all(found and found[0] is not None for found in names_of) and len(set(names_of)) == len(desired):
            by_name = {_key(item, fields): item for item in live if isinstance(item, Mapping)}
            if not all(found in by_name for found in names_of):
                return None
            return [(by_name[found], item) for found, item in zip(names_of, desired, strict=True)]
    return zip(live, desired, strict=True) if len(live) == len(desired) else None


def _key(item: Mapping[str, Any], fields: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(field) or _LEFT_OUT.get(field) for field in fields)


def ports_beside(present: list[Any], ours: list[Any]) -> list[Any]:
    """Our ports of a Service, and those of others that go together with them; empty if none stands in their way."""

    def number(port: Mapping[str, Any]) -> tuple[Any, ...]:
        return _key(port, ("port", "protocol"))

    taken = {port.get("name"): number(port) for port in ours}
    numbers = set(taken.values())

    def rivals(port: Mapping[str, Any]) -> bool:
        same_name, same_number = port.get("name") in taken, number(port) in numbers
        return (same_name or same_number) and taken.get(port.get("name")) != number(port)

    if not any(map(rivals, present)):
        return []
    kept = [port for port in present if port.get("name") not in taken and number(port) not in numbers]
    node_ports = {port.get("name"): {"nodePort": port["nodePort"]} for port in present if port.get("nodePort")}
    return [*({**node_ports.get(port.get("name"), {}), **port} for port in ours), *kept]
