"""Plain values of Kubernetes' types as arguments: typed for editors, and checked by the schema that the manifest is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from dask_crds.schema import partial_schema

from .keywords import Plain, Problem
from .manifest import explained


def shape(kubernetes_type: str, wanted: str = "", read: Callable[[Any], Any] = lambda value: value) -> Plain:
    """An argument that is a value of one of Kubernetes' types, or that ``read`` makes one of.

    Args:
        kubernetes_type: ``Toleration``, say.
        wanted: what is right, for people, where other things are taken as well.
        read: see ``Plain``.
    """
    return Plain(
        dict[str, Any],
        wanted or f"what Kubernetes calls {kubernetes_type}, as a mapping",
        read,
        lambda value: shape_problems(kubernetes_type, value),
    )


def shape_problems(kubernetes_type: str, value: Any) -> Iterator[Problem]:
    """Fields that a type of Kubernetes does not have, and wrong values; ``None`` removes a field and is right."""
    for error in _validator(kubernetes_type).iter_errors(value):
        is_member = bool(error.absolute_path) and isinstance(error.absolute_path[-1], int)
        if error.instance is not None or is_member:
            for path, message in explained(error):
                yield f".{path}".replace(".[", "[") if path else "", message


@cache
def _validator(kubernetes_type: str) -> Draft202012Validator:
    return Draft202012Validator(partial_schema(kubernetes_type))
