"""Rules for one field: what it may be, as small functions that a table of fields is made of."""

from __future__ import annotations

import ipaddress
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..quantity import parse_quantity
from .syntax import DNS_LABEL, DNS_NAME, Problems, is_key, is_label_value

#: Takes where a value is, and the value; yields what is wrong with it.
Rule = Callable[[str, Any], Problems]


def one_of(*allowed: object) -> Rule:
    """One of some values."""
    shown = ", ".join(str(value) for value in allowed if value != "")

    def rule(path: str, value: Any) -> Problems:
        if value not in allowed:
            yield path, f"{reprlib.repr(value)} must be one of {shown}"

    return rule


def between(least: int, most: int) -> Rule:
    """A number within bounds, which are possible too."""

    def rule(path: str, value: Any) -> Problems:
        if isinstance(value, int) and not least <= value <= most:
            yield path, f"{value} must be between {least} and {most}"

    return rule


def text(fits: Callable[[str], object], what: str) -> Rule:
    """A text of which a function is true; ``what`` says which those are."""

    def rule(path: str, value: Any) -> Problems:
        if not fits(value):
            yield path, f"{reprlib.repr(value)} {what}"

    return rule


def optional(rule: Rule) -> Rule:
    """The same rule for what is not empty or zero: Kubernetes takes that for left out."""
    return lambda path, value: rule(path, value) if value not in ("", 0) else iter(())


def each(rule: Rule, *, most: int | None = None) -> Rule:
    """A list of values that keep a rule."""

    def rules(path: str, values: Sequence[Any]) -> Problems:
        if most is not None and len(values) > most:
            yield path, f"must have at most {most} members, has {len(values)}"
        for number, value in enumerate(values):
            yield from rule(f"{path}[{number}]", value)

    return rules


def both(*rules: Rule) -> Rule:
    """Several rules."""

    def rule(path: str, value: Any) -> Problems:
        for each_of in rules:
            yield from each_of(path, value)

    return rule


def unique(path: str, values: Sequence[Any]) -> Problems:
    """A list in which nothing is twice."""
    for number, value in enumerate(values):
        if value in values[:number]:
            yield f"{path}[{number}]", f"{reprlib.repr(value)} is there twice"


def not_empty(path: str, value: Any) -> Problems:
    """A text, or a list, with something in it."""
    if not value:
        yield path, "must not be empty"


def labels(path: str, values: Mapping[str, str]) -> Problems:
    """What may be asked of labels."""
    for key, value in values.items():
        if not is_key(key) or not is_label_value(value):
            yield path, f"{reprlib.repr(key)}: {reprlib.repr(value)} is no label that an object can have"


def is_port_name(value: str) -> bool:
    """Whether a port can have the name (RFC 6335)."""
    return re.fullmatch(r"(?!.*--)(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", value) is not None


def is_inside(value: str) -> bool:
    """Whether a path leads to something below where it begins."""
    return not value.startswith("/") and ".." not in value.split("/")


def is_address(value: str) -> bool:
    """Whether a text is an IP address; zeros before numbers were allowed once, and are still."""
    zeros = re.sub(r"(?<![0-9a-fA-F.])0+(?=[0-9])|(?<=\.)0+(?=[0-9])", "", value)
    try:
        return "%" not in value and bool(ipaddress.ip_address(zeros if "." in value else value))
    except ValueError:
        return False


def is_network(value: str) -> bool:
    """Whether a text is an address with the length of a prefix."""
    address, slash, length = value.strip().partition("/")
    bits = 128 if ":" in address else 32
    return (
        bool(slash) and is_address(address) and re.fullmatch("[0-9]{1,3}", length) is not None and int(length) <= bits
    )


def is_search(value: str) -> bool:
    """Whether a text can be a search path of DNS."""
    name = value if value == "." else value.removesuffix(".")
    return name == "." or (len(name) <= LONGEST_NAME and _SEARCH.fullmatch(name) is not None)


LONGEST_NAME = 253  #: characters of a DNS name
_SEARCH = re.compile(r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*")


def amount(path: str, value: Any) -> Problems:
    """A quantity that is not negative."""
    try:
        if parse_quantity(value) < 0:
            yield path, f"{value} is less than the minimum of 0"
    except ValueError as error:
        yield path, str(error)


def amounts(path: str, values: Mapping[str, Any]) -> Problems:
    """Quantities by name."""
    for name, value in values.items():
        yield from amount(f"{path}.{name}", value)


def port(path: str, value: Any) -> Problems:
    """The number or the name of a port."""
    if isinstance(value, str):
        if not is_port_name(value):
            yield (
                path,
                f"{reprlib.repr(value)} is no name of a port: a-z, 0-9 and -, with a letter, at most 15 characters",
            )
    elif not isinstance(value, int) or not 1 <= value <= _LARGEST_PORT:
        yield path, f"{value} must be between 1 and {_LARGEST_PORT}"


_LARGEST_PORT = 65535
KEY = text(is_key, "is not a key: letters, digits, '-', '_' and '.', at most 63, maybe after a DNS name and '/'")
LABEL_VALUE = text(is_label_value, "is not a label: at most 63 letters, digits, '-', '_' and '.'")
LABEL = text(DNS_LABEL.fullmatch, "must be a DNS label: a-z, 0-9 and -, at most 63 characters")
NAME = text(DNS_NAME.fullmatch, "must be a DNS name: a-z, 0-9, '-' and '.', at most 253 characters")
SEARCH = text(is_search, "must be a DNS name, at most 253 characters")
VARIABLE = text(re.compile(r"[ -<>-~]+").fullmatch, "must be printable ASCII without '='")
DATA_KEY = text(
    re.compile(r"(?!.{254})(?!\.\.|\.$)[-._a-zA-Z0-9]+").fullmatch,
    "is no key of a ConfigMap or Secret: letters, digits, '-', '_' and '.'",
)
ADDRESS = text(is_address, "must be an IP address")
NETWORK = text(is_network, "must be a network such as 10.0.0.0/8")
INSIDE = text(is_inside, "must be a relative path without '..'")
FILE = text(
    lambda value: value and is_inside(value) and not value.startswith(".."),
    "must be a relative path that does not begin with '..'",
)
UPWARD = text(lambda value: ".." not in value.split("/"), "must not contain '..'")
ABSOLUTE = text(lambda value: value.startswith("/"), "must be an absolute path")
PORT_NUMBER = between(1, _LARGEST_PORT)
ID = between(0, 2**31 - 1)
