"""Requests and limits of containers, and of a whole Pod."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from ..quantity import not_whole, parse_quantity
from .syntax import Problems, is_key

_HUGE = "hugepages-"
#: What a container may ask for, next to huge pages and what others than Kubernetes name.
_NATIVE = ("cpu", "memory", "ephemeral-storage")
#: What a whole Pod may ask for, next to huge pages.
_OF_POD = ("cpu", "memory")


def resources(path: str, value: Mapping[str, Any] | None, *, of_pod: bool = False) -> Problems:
    """Requests and limits: quantities of something that there is, of which no request exceeds its limit."""
    found = {field: (value or {}).get(field) or {} for field in ("requests", "limits")}
    parsed: dict[tuple[str, str], Decimal] = {}
    for field, amounts in found.items():
        for resource, amount in amounts.items():
            here = f"{path}.{field}.{resource}"
            try:
                parsed[field, resource] = parse_quantity(amount)
            except ValueError as error:
                yield here, str(error)
                continue
            yield from _name(here, resource, of_pod=of_pod)
            yield from _amount(here, resource, amount, parsed[field, resource])
    for (field, resource), amount in parsed.items():
        if field == "requests":
            yield from _limited(
                f"{path}.requests.{resource}", resource, found, amount, parsed.get(("limits", resource))
            )
    asked = {resource for amounts in found.values() for resource in amounts}
    if any(resource.startswith(_HUGE) for resource in asked) and not asked & {"cpu", "memory"}:
        yield path, "must have cpu or memory beside huge pages"


def _is_extended(resource: str) -> bool:
    return "/" in resource and "kubernetes.io/" not in resource


def _name(path: str, resource: str, *, of_pod: bool) -> Problems:
    native = _OF_POD if of_pod else _NATIVE
    fits = resource in native or resource.startswith(_HUGE)
    if "/" in resource and not of_pod:  # quotas name it with a prefix, which has to fit in too
        fits = not _is_extended(resource) or (not resource.startswith("requests.") and is_key(f"requests.{resource}"))
    if not fits or not is_key(resource):
        rest = "" if of_pod else " or DOMAIN/NAME of a device"
        yield path, f"{reprlib.repr(resource)} must be {', '.join(native)}, hugepages-SIZE{rest}"


def _amount(path: str, resource: str, written: Any, amount: Decimal) -> Problems:
    if isinstance(written, float) and not written.is_integer():
        yield path, not_whole(written)
    elif amount < 0:
        yield path, f"{written} is less than the minimum of 0"
    elif _is_extended(resource) and amount % 1:
        yield path, f"{written} must be a whole number of {resource}"
    elif resource.startswith(_HUGE):
        try:
            size = parse_quantity(resource.removeprefix(_HUGE))
        except ValueError:
            size = Decimal(0)
        if size <= 0 or size % 1 or amount % size:
            yield path, f"{written} must be a multiple of the pages' size, {resource.removeprefix(_HUGE)}"


def _limited(
    path: str, resource: str, found: Mapping[str, Mapping[str, Any]], amount: Decimal, limit: Decimal | None
) -> Problems:
    shared = not _is_extended(resource) and not resource.startswith(_HUGE)
    if limit is None:
        if not shared and resource not in found["limits"]:
            yield path, "needs the same limit: of devices and huge pages none is lent"
        return
    written = f"{found['requests'][resource]} > {found['limits'][resource]}"
    if amount > limit:
        yield path, f"must not be greater than the limit ({written})"
    elif amount != limit and not shared:
        yield path, f"must be the same as the limit ({written.replace('>', '!=')})"


def claims(path: str, used: Sequence[Mapping[str, Any]], known: set[str]) -> Problems:
    """Claims of the Pod that a container uses."""
    seen: list[tuple[str, str]] = []
    for number, claim in enumerate(used):
        name, request = claim["name"], claim.get("request") or ""
        if name not in known:
            yield f"{path}[{number}].name", f"there is no {reprlib.repr(name)} in the Pod's resourceClaims"
        if any((before == name and request in ("", other)) or (before == name and not other) for before, other in seen):
            yield f"{path}[{number}]", f"{reprlib.repr(name)} is used twice"
        seen.append((name, request))


def consistent(path: str, spec: Mapping[str, Any]) -> Problems:
    """The resources of a whole Pod hold those of its containers."""
    whole = spec.get("resources")
    if whole is None:
        return
    if whole.get("claims") is not None:
        yield f"{path}.resources.claims", "cannot be set for a whole Pod"
    yield from resources(f"{path}.resources", whole, of_pod=True)
    try:
        for resource, amount in (whole.get("requests") or {}).items():
            asked = _asked(spec, resource)
            if asked > parse_quantity(amount):
                yield (
                    f"{path}.resources.requests.{resource}",
                    f"{amount} is less than the containers' requests ({asked})",
                )
        for number, container in enumerate(spec["containers"]):
            for resource, limit in ((container.get("resources") or {}).get("limits") or {}).items():
                most = (whole.get("limits") or {}).get(resource)
                if most is not None and parse_quantity(limit) > parse_quantity(most):
                    where = f"{path}.containers[{number}].resources.limits.{resource}"
                    yield where, f"must not be greater than the Pod's ({limit} > {most})"
    except ValueError:
        return  # said already


def _asked(spec: Mapping[str, Any], resource: str) -> Decimal:
    """What the containers ask for: all at once, or an init container and the sidecars before it."""

    def request(container: Mapping[str, Any]) -> Decimal:
        found = container.get("resources") or {}
        stated = (found.get("requests") or {}).get(resource, (found.get("limits") or {}).get(resource, 0))
        return parse_quantity(stated)

    sidecars, most = Decimal(0), Decimal(0)
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars += request(container)
            most = max(most, sidecars)
        else:
            most = max(most, sidecars + request(container))
    return max(most, sidecars + sum((request(container) for container in spec["containers"]), Decimal(0)))
