"""Keyword arguments of the constructs: declared once, as fields of a ``TypedDict``, and checked strictly by msgspec.

A string is no list, ``True`` no number, ``4.0`` no count, and ``None`` is "left out". What is wrong is reported instead
of raised, so that all mistakes of an app are told at once; the construct goes on as if the argument had been left out.
Objects of cdk8s and cdk8s-plus are taken where their plain values are, see ``Plain``.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec
from msgspec import Meta

from .hints import hint_for
from .writable import plain, unwritable

#: Keyword arguments that were checked, as plain values.
Options = Mapping[str, Any]
#: Which part of an argument (empty: all of it), and what is wrong with it.
Problem = tuple[str, str]


@dataclass(frozen=True)
class Plain:
    """Metadata of an ``Annotated`` type whose values may be given as objects: what they are in a manifest.

    Attributes:
        type: the plain type, which is checked.
        wanted: what is right, for people: ``must be <wanted>, not ...``.
        read: makes the plain value of what was given; raises ``ValueError`` with what would be right.
        check: what is wrong with a plain value of that type.
    """

    type: Any
    wanted: str
    read: Callable[[Any], Any] = lambda value: value
    check: Callable[[Any], Iterable[Problem]] = lambda value: ()


def accepted(given: Mapping[str, Any], declared: type, report: Callable[[str], object]) -> Options:
    """The keyword arguments that are right, as plain values. What is wrong with the others is reported.

    Args:
        given: the keyword arguments.
        declared: a ``TypedDict`` with a field for each.
        report: called with each mistake, as ``keyword: message``.

    Raises:
        TypeError: unknown keywords or missing ones, as Python says of any function.
    """
    fields = _fields(declared)
    if unknown := [f"{name!r}{hint_for(str(name), fields)}" for name in given if name not in fields]:
        raise TypeError(f"unexpected keyword argument{'s' * (len(unknown) > 1)} {', '.join(unknown)}")
    if missing := [repr(name) for name in _required(declared) if given.get(name) is None]:
        raise TypeError(f"missing keyword argument{'s' * (len(missing) > 1)} {', '.join(missing)}")
    right, problems = _members(fields, given)
    for part, message in problems:
        report(f"{part}: {message}")
    return right


def _members(fields: Mapping[str, Any], given: Mapping[str, Any], within: str = "{}") -> tuple[Options, list[Problem]]:
    """Values of known fields that are right, and what is wrong with the others; ``within`` says where they are."""
    right: dict[str, Any] = {}
    wrong: list[Problem] = []
    for name, value in given.items():
        if value is not None:
            part = within.format(name)
            read, problems = checked(fields[name], plain(value), part)
            problems = problems or list(unwritable(read, part))
            wrong += problems
            if not problems:
                right[name] = read
    return right, wrong


@cache
def _fields(declared: type) -> dict[str, Any]:
    return {name: stripped(hint) for name, hint in get_type_hints(declared, include_extras=True).items()}


@cache
def _required(declared: type) -> list[str]:
    """Names of what must be given. ``__required_keys__`` does not know: it looks into no annotation that is text."""
    return [name for name, hint in get_type_hints(declared, include_extras=True).items() if is_required(hint)]


def is_required(hint: Any) -> bool:
    """Whether a keyword of this type must be given."""
    return get_origin(hint) is Required


def stripped(hint: Any) -> Any:
    """The type without ``Required`` and without ``None``, which counts as left out."""
    if get_origin(hint) in (Required, NotRequired):
        return stripped(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(option for option in get_args(hint) if option is not NoneType)]  # noqa: UP007 - of a tuple
    return hint


# --- values -----------------------------------------------------------------------------------------------------------


def checked(hint: Any, value: Any, part: str = "") -> tuple[Any, list[Problem]]:
    """The plain value of what was given for a declared type, and what is wrong with it."""
    marker = next((extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Plain)), None)
    if marker is not None:
        try:
            value, hint = marker.read(value), marker.type
        except ValueError as error:
            return value, [(part, str(error))]
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    problems: list[Problem] = []
    if is_typeddict(bare) and isinstance(value, Mapping):
        return _options(bare, value, part)
    if get_origin(bare) is Sequence and isinstance(value, Sequence) and not isinstance(value, str | bytes):
        members = [checked(get_args(bare)[0], member, f"{part}[{number}]") for number, member in enumerate(value)]
        value = [member for member, _ in members]
        problems = [problem for _, found in members for problem in found]
    elif get_origin(bare) is Mapping and isinstance(value, Mapping):
        of_key, of_value = get_args(bare)
        keys = {key: checked(of_key, key, part)[1] for key in value}
        entries = {key: checked(of_value, member, f"{part}[{key!r}]") for key, member in value.items()}
        problems = [(part, f"a key {message}") for found in keys.values() for _, message in found]
        problems += [problem for _, found in entries.values() for problem in found]
        value = {key: member for key, (member, _) in entries.items()}
    problems = problems or list(_itself(hint, value, part, marker.wanted if marker else _wanted(hint)))
    if marker is not None and not problems:
        problems = [(part + within, message) for within, message in marker.check(value)]
    return value, problems


def _options(declared: type, given: Mapping[str, Any], part: str) -> tuple[Options, list[Problem]]:
    """Keyword arguments within an argument."""
    fields = _fields(declared)
    unknown = [
        (f"{part}[{name!r}]", f"unknown option{hint_for(str(name), fields)}") for name in given if name not in fields
    ]
    right, wrong = _members(fields, {name: value for name, value in given.items() if name in fields}, part + "[{!r}]")
    return right, unknown + wrong


def _itself(hint: Any, value: Any, part: str, wanted: str) -> Iterator[Problem]:
    """What is wrong with a value other than what is wrong with its members."""
    try:
        msgspec.convert(value, _shallow(hint))
    except msgspec.ValidationError:
        yield part, f"must be {wanted}, not {reprlib.repr(value)}{_meant(hint, value)}"


def _shallow(hint: Any) -> Any:
    """The type without what has been said of members, and in terms that msgspec knows."""
    if get_origin(hint) is Annotated:
        bare, *metadata = get_args(hint)
        return Annotated[(_shallow(bare), *(extra for extra in metadata if isinstance(extra, Meta)))]
    if get_origin(hint) is Sequence:
        return list[Any]
    return dict[Any, Any] if get_origin(hint) is Mapping or is_typeddict(hint) else hint


# --- words ------------------------------------------------------------------------------------------------------------

_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}


def _wanted(hint: Any) -> str:
    """What is right, for people."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _wanted(inner[0]) + "".join(_bounds(extra) for extra in inner[1:] if isinstance(extra, Meta))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inner)) if len(inner) > 1 else repr(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(_wanted(option) for option in inner if option is not NoneType)
    if origin is Sequence:
        return "a list"
    if origin is Mapping or is_typeddict(hint):
        return "a mapping"
    return _NAMES.get(hint) or f"what Kubernetes calls {hint.__name__}"


def _bounds(meta: Meta) -> str:
    least = meta.ge if meta.ge is not None else meta.gt
    if least is not None and meta.le is not None:
        return f" from {least} to {meta.le}"
    if least is not None:
        return f" of at least {least}" if meta.ge is not None else f" greater than {least}"
    if meta.min_length:
        return " that is not empty"
    return f" of at most {meta.le}" if meta.le is not None else ""


def _meant(hint: Any, value: Any) -> str:
    """What the value probably stands for."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(bare) is Literal:
        names = {str(option).lower(): option for option in get_args(bare)}
        close = difflib.get_close_matches(str(value).lower(), names, n=1)
        return f"; did you mean {names[close[0]]!r}?" if close else ""
    if get_origin(bare) is Sequence and isinstance(value, str):
        return f"; for one, write [{value!r}]"
    if bare is int and isinstance(value, str) and value.strip().isdigit():
        return f"; write {int(value)}"
    return f"; write '{value}'" if bare is str and isinstance(value, int | float) else ""
