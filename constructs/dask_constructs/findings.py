"""What is wrong with an app, found once per synth and told all at once, each at its construct's path.

cdk8s validates the whole app once for every chart, so a check of each resource would make synth quadratic. There is one
validation at the root instead. It asks everybody and remembers the answers for as long as the same call into jsii goes
on, in which nothing but validations can run; whoever is wrong gets a validation of its own, which says so.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Protocol

import jsii
from constructs import Construct, IConstruct, IValidation, Node

from .agreement import Declared, disagreements


class Member(Protocol):
    """A construct that knows what is wrong with it."""

    @property
    def node(self) -> Node:
        """Its place in the tree."""

    def problems(self) -> list[str]:
        """What is wrong."""

    def declared(self) -> Declared | None:
        """The Dask resource that it is, as ``problems`` saw it last."""


def reference_of_root(scope: IConstruct) -> str:
    """What tells one tree from another: of a root that is not made in Python, there is a new object each time."""
    reference: str = scope.node.root.__jsii_ref__.ref  # type: ignore[attr-defined]
    return reference


class Findings:
    """All that is wrong in one tree of constructs; see ``of``.

    Attributes:
        members: the constructs that are asked at each synth.
    """

    #: By the root's reference. jsii itself never lets go of any.
    _trees: dict[str, Findings] = {}

    def __init__(self, root: IConstruct) -> None:
        self.members: list[Member] = []
        self._found: dict[str, list[str]] = {}
        self._telling: set[str] = set()
        self._call: FrameType | None = None
        root.node.add_validation(_Validation(self._of_root))

    @classmethod
    def of(cls, scope: Construct) -> Findings:
        """The findings of the tree that ``scope`` belongs to."""
        reference = reference_of_root(scope)
        if reference not in cls._trees:
            cls._trees[reference] = cls(scope.node.root)
        return cls._trees[reference]

    def _of_root(self) -> list[str]:
        call = _call_into_jsii()
        if call is None or call is not self._call:
            self._call, self._found = call, self._all()
            for member in self.members:
                path = member.node.path
                if path in self._found and path not in self._telling:  # its turn is after the root's, in this very pass
                    self._telling.add(path)
                    member.node.add_validation(_Validation(partial(self._of, path)))
        return []

    def _of(self, path: str) -> list[str]:
        return self._found.get(path, [])

    def _all(self) -> dict[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for member in self.members:
            if problems := member.problems():
                found[member.node.path] += problems
        declared = [one for member in self.members if (one := member.declared()) is not None]
        for one, problem in disagreements(declared):
            found[one.path].append(problem)
        return dict(found)


@jsii.implements(IValidation)
class _Validation:
    def __init__(self, tell: Callable[[], list[str]]) -> None:
        self._tell = tell

    def validate(self) -> list[str]:
        return self._tell()


def _call_into_jsii() -> FrameType | None:
    """The frame in which the program called jsii, whose callbacks run within it.

    As long as somebody holds the frame, no other can be taken for it.
    """
    outermost = None
    for frame in _callers():
        if frame.f_globals.get("__name__", "").partition(".")[0] == "jsii":
            outermost = frame
    return outermost


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
