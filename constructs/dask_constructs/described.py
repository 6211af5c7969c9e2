"""What ``help()``, ``inspect`` and notebooks say of a construct: its keyword arguments, from their ``TypedDict``.

Nothing of it is made before somebody asks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, Unpack, get_args, get_origin, get_type_hints

from jsii import JSIIMeta

from dask_crds.docstrings import field_docstrings

from .keywords import is_required


class Described(JSIIMeta):
    """Metaclass of constructs that tell in signature and docstring which keyword arguments they take."""

    @property
    def __signature__(cls) -> Signature:
        positional = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
        declared = keywords_of(cls.__init__)  # type: ignore[misc]
        return Signature(positional if declared is None else [*positional[:-1], *_parameters(declared)])

    @property
    def __doc__(cls) -> str | None:  # type: ignore[override]
        own = vars(cls).get("__doc__")
        declared = keywords_of(cls.__init__)  # type: ignore[misc]
        if own is None or declared is None:
            return own
        keywords = [f"    {name}: {text}" for name, text in field_docstrings(declared).items()]
        return "\n".join([inspect.cleandoc(own), "", "Keyword arguments:", *keywords])


def keywords_of(function: Callable[..., Any]) -> type | None:
    """The ``TypedDict`` of a function's keyword arguments, ``None`` if it takes no ``**name: Unpack[...]``."""
    parameters = inspect.signature(function).parameters.values()
    keywords = next((one for one in parameters if one.kind is Parameter.VAR_KEYWORD), None)
    if keywords is None:
        return None
    try:
        hint = get_type_hints(function)[keywords.name]
    except (KeyError, NameError):  # a subclass of the user's, whose types are not said, or not known at run time
        return None
    return get_args(hint)[0] if get_origin(hint) is Unpack else None


def _parameters(declared: type) -> list[Parameter]:
    """Keyword arguments, first those that must be given; without types, which would make it unreadable."""
    hints = get_type_hints(declared, include_extras=True)
    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=Parameter.empty if is_required(hint) else None)
        for name, hint in hints.items()
    ]
    return sorted(parameters, key=lambda parameter: parameter.default is None)
