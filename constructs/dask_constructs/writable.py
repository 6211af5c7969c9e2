"""What a manifest can hold: plain data, and text that everybody reads as it was meant once cdk8s has written it."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

_UNREADABLE = "which cdk8s writes so that nobody can read the file"
#: Text of which a reader gets something else, or nothing, as cdk8s writes it (`yaml` 2.0.0-7), and what is said of it.
_LOST = {
    re.compile("[\ud800-\udfff]"): "has half a character, {!a}, which no file can hold",
    re.compile("[\x7f-\x9f\u2028\u2029\ufffe\uffff]"): f"has {{!a}}, {_UNREADABLE}",
    re.compile(r"\A(?=[^\n]*\n)(?![\s\S]*\n[\t ]+\Z)\n*\t"): f"begins with {{!a}}, {_UNREADABLE}",
    re.compile(r"\A(?!\n*\Z)[\t\n ]*\n\Z"): "has nothing but spaces and ends of lines, which would be lost",
    # Go's numbers, which cdk8s leaves without quotes.
    re.compile(r"\A[-+]?0(?:[oO][0-7]+|X[0-9a-fA-F]+|B[01]+)\Z"): "would be read as a number: write {!a} otherwise",
}


def plain(value: Any) -> Any:
    """The same in terms of JSON: tuples as lists, members of enumerations as their values; what has none, stays."""
    if isinstance(value, Mapping):
        return {plain(key): plain(member) for key, member in value.items()}
    if isinstance(value, list) or type(value) is tuple:
        return [plain(member) for member in value]
    if isinstance(value, str):
        return str.__str__(value)  # and not `str(value)`, which is the name of a member of an enumeration
    return value


def unwritable(value: object, part: str, *, data: bool = False) -> Iterator[tuple[str, str]]:
    """Which parts of a value a manifest cannot hold, and why.

    Args:
        value: as `plain` makes it.
        part: what it is called.
        data: whether it must be data through and through, or may hold objects of which data is made later.
    """
    if isinstance(value, str):
        found = ((pattern.search(value), message) for pattern, message in _LOST.items())
        yield from [(part, message.format(match[0])) for match, message in found if match][:1]
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from unwritable(key, part, data=data)
            yield from unwritable(member, f"{part}[{key!a}]", data=data)
    elif isinstance(value, list):
        for number, member in enumerate(value):
            yield from unwritable(member, f"{part}[{number}]", data=data)
    elif data and not isinstance(value, int | float | NoneType):
        yield part, f"must be text, a number, a list or a mapping, not {reprlib.repr(value)}"
