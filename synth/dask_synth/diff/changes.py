"""Two sets of manifests compared: a pure function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from msgspec import Struct

from dask_crds.model import DaskAutoscaler, DaskCluster, DaskObject, DaskWorkerGroup, parse
from dask_resources.revision import canonical

from .amounts import Amounts, total
from .effects import Effect, effects
from .state import State, state, target

_Identity = tuple[str, str, str]


class Resource(NamedTuple):
    """A manifest of one of our kinds, and the folder that it is in: of environments, each has its own."""

    place: str
    manifest: Mapping[str, Any]

    @property
    def identity(self) -> _Identity:
        """Kind, namespace and name."""
        metadata = self.manifest.get("metadata") or {}
        name = metadata.get("name") or f"{metadata.get('generateName') or ''}..."
        return self.manifest["kind"], str(metadata.get("namespace") or ""), str(name)


class Size(Struct, frozen=True, kw_only=True, rename="camel"):
    """How much there is, from the least that autoscalers may ask for to the most."""

    workers: tuple[int, int] = (0, 0)
    requests: Mapping[str, tuple[Decimal, Decimal]] = {}  #: CPUs, bytes, numbers, by name of the resource


class Change(Struct, frozen=True, kw_only=True, rename="camel"):
    """What becomes of a resource."""

    kind: str
    namespace: str
    name: str
    place: str
    action: str  #: new, gone, or changed
    effects: tuple[Effect, ...]
    loses_work: bool
    fields: tuple[str, ...]  #: those that differ
    before: Size
    after: Size


class Report(Struct, frozen=True, kw_only=True, rename="camel"):
    """All that changes, and all that there is before and after."""

    changes: tuple[Change, ...]
    before: Size
    after: Size


def compared(before: Sequence[Resource], after: Sequence[Resource]) -> Report:
    """What becomes of the resources of ours when one set of manifests takes the place of another.

    They must be valid: ``dask_constructs.problems`` finds nothing.
    """
    old, new = _states(before), _states(after)
    changes = [change for pair in _pairs(before, after) if (change := _change(*pair, old, new))]
    changes.sort(key=lambda it: (it.place, it.namespace, it.kind, it.name))
    return Report(changes=tuple(changes), before=_size(old.values()), after=_size(new.values()))


def _pairs(before: Sequence[Resource], after: Sequence[Resource]) -> Iterator[tuple[Resource | None, Resource | None]]:
    """Same folder and identity; else the same identity, if there is only one: it has moved."""
    old = {(it.place, it.identity): it for it in before}
    new = {(it.place, it.identity): it for it in after}
    gone, made = ({key: it for key, it in one.items() if key not in other} for one, other in ((old, new), (new, old)))
    counts = Counter(identity for _, identity in (*gone, *made))
    moved = {identity for _, identity in gone} & {identity for _, identity in made}
    moved = {identity for identity in moved if counts[identity] == 2}
    there = {identity: it for (_, identity), it in made.items()}
    for key, it in old.items():
        if key in new:
            yield it, new[key]
        else:
            yield it, there[key[1]] if key[1] in moved else None
    yield from ((None, it) for (_, identity), it in made.items() if identity not in moved)


def _states(resources: Sequence[Resource]) -> dict[tuple[str, _Identity], State]:
    """States by folder and identity."""
    values = [(it, parse({**it.manifest, "metadata": dict(it.manifest.get("metadata") or {})})) for it in resources]
    counts = Counter(it.identity for it in resources)

    def same_place(one: Resource, other: Resource) -> bool:
        """Whether two are of the same environment: what exists once belongs to whatever is there."""
        return one.place == other.place or counts[one.identity] == 1

    def of(it: Resource, value: DaskObject) -> State:
        def autoscaler(namespace: str, group: str) -> DaskAutoscaler | None:
            found = (
                each
                for other, each in values
                if isinstance(each, DaskAutoscaler) and same_place(it, other)
                if (each.namespace, target(each)) == (namespace, group)
            )
            return next(found, None)

        held = isinstance(value, DaskWorkerGroup) and any(
            isinstance(each, DaskCluster) and each.spec.suspend and same_place(it, other)
            for other, each in values
            if (each.namespace, each.name) == (value.namespace, value.spec.cluster)
        )
        return state(value, stated=_states_replicas(it.manifest), autoscalers=autoscaler, held=held)

    return {(it.place, it.identity): of(it, value) for it, value in values}


def _states_replicas(manifest: Mapping[str, Any]) -> bool:
    spec = manifest.get("spec") or {}
    template = spec["cluster"]["spec"] if manifest["kind"] == "DaskJob" else spec
    return (template.get("worker") or {}).get("replicas") is not None


_States = Mapping[tuple[str, _Identity], State]


def _change(before: Resource | None, after: Resource | None, old: _States, new: _States) -> Change | None:
    was = old[before.place, before.identity] if before else None
    will = new[after.place, after.identity] if after else None
    fields = tuple(_differing(_written(before), _written(after))) if before and after else ()
    if before and after and not fields and was == will:
        return None
    said = tuple(effects(was, will))
    it = after or before
    assert it is not None
    kind, namespace, name = it.identity
    return Change(
        kind=kind,
        namespace=namespace,
        name=name,
        place=it.place,
        action="changed" if before and after else "new" if after else "gone",
        effects=said or (Effect("nothing is restarted"),),
        loses_work=any(each.loses_work for each in said),
        fields=fields,
        before=_size([was] if was else []),
        after=_size([will] if will else []),
    )


def _size(states: Any) -> Size:
    found: list[State] = list(states)
    least = total(it.requests(lambda group: group.least) for it in found)
    most = total(it.requests(lambda group: group.most) for it in found)
    return Size(
        workers=(sum(it.least_workers for it in found), sum(it.most_workers for it in found)),
        requests=_spans(least, most),
    )


def _spans(least: Amounts, most: Amounts) -> dict[str, tuple[Decimal, Decimal]]:
    names = sorted({*least, *most})
    spans = {name: (least.get(name, Decimal()), most.get(name, Decimal())) for name in names}
    return {name: span for name, span in spans.items() if any(span)}


def _written(it: Resource) -> Any:
    """What its user wrote, as far as it means something."""
    metadata = it.manifest.get("metadata") or {}
    kept = {field: metadata[field] for field in ("labels", "annotations") if metadata.get(field)}
    return canonical({"metadata": kept, "spec": it.manifest.get("spec")})


def _differing(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Paths of the fields in which two values differ, as ``kubectl`` writes them."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _differing(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from _differing(*pair, f"{path}[{number}]")
    elif before != after:
        yield path
