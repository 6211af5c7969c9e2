"""Objects that are handed in as arguments: applied before what uses them, and of the same namespace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cdk8s import ApiObject, Chart

from dask_crds import names

from .findings import reference_of_root
from .history import History
from .security import Tls
from .volumes import Volume

#: Kinds that belong to no namespace; cdk8s writes that of the chart into them all the same.
_WITHOUT_NAMESPACE = ("ClusterQueue", "Namespace", "PriorityClass", "RuntimeClass", "StorageClass")


class HandedIn(NamedTuple):
    """An object that an app declares and uses elsewhere; what exists already, and is known by name alone, is none."""

    keyword: str  #: and the part of it: ``volumes['/data']``
    path: str  #: of its construct
    object: ApiObject

    @property
    def is_ours(self) -> bool:
        """Whether it is a Dask resource, for which the operator waits."""
        return self.object.api_version == names.API_VERSION

    def elsewhere(self, namespace: str | None) -> Iterator[str]:
        """What is wrong, as ``keyword: message``, if whatever uses it is in that namespace and the object is not."""
        there = self.object.metadata.namespace
        if there != namespace and self.object.kind not in _WITHOUT_NAMESPACE:
            what = f"{self.object.kind} {self.object.name!r} ({self.path})"
            yield f"{self.keyword}: must be in {_named(namespace)}; {what} is in {there!r}"

    def precedes(self, user: ApiObject) -> None:
        """Have the object applied before what uses it, in the file or by the order of files."""
        if not self.is_ours and _may_follow(Chart.of(user), Chart.of(self.object)):
            user.node.add_dependency(self.object)


def _named(namespace: str | None) -> str:
    return f"the namespace {namespace!r}" if namespace else "no namespace"


def handed_in(given: Any, keyword: str = "") -> Iterator[HandedIn]:
    """The objects among keyword arguments, at any depth."""
    if isinstance(given, Mapping):
        for key, member in given.items():
            yield from handed_in(member, f"{keyword}[{key!r}]" if keyword else str(key))
    elif isinstance(given, list | tuple):
        for number, member in enumerate(given):
            yield from handed_in(member, f"{keyword}[{number}]")
    elif isinstance(given, Volume | Tls | History):
        yield from handed_in(given.given, keyword)
    elif hasattr(given, "node"):
        written = given
        while written is not None and not isinstance(written, ApiObject):
            written = written.node.default_child
        if written is not None:
            yield HandedIn(keyword, given.node.path, written)


# --- the order of charts ----------------------------------------------------------------------------------------------

#: Of each tree of constructs: which charts come after which, by their paths, as far as objects were handed in.
_after: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))


def _may_follow(chart: Chart, other: Chart) -> bool:
    """Whether a chart can be written after another: the first order that is asked for counts, for cdk8s takes no cycle.

    It has one order of its own: charts come after those within them.
    """
    here, there = chart.node.path, other.node.path
    if here == there:
        return True
    if reference_of_root(chart) != reference_of_root(other):
        return False
    after = _after[reference_of_root(chart)]
    reached, coming = set[str](), [there]
    while coming:
        at = coming.pop()
        if at == here or here.startswith(f"{at}/"):
            return False
        if at not in reached:
            reached.add(at)
            coming += [*after[at], *(path for path in tuple(after) if path.startswith(f"{at}/"))]
    after[here].add(there)
    return True
