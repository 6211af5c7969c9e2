"""What people hand in where a manifest has numbers, quantities, seconds and names: plain, or as objects of cdk8s.

Each type below is what type checkers see, and says with ``Plain`` what becomes of it in the manifest.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Protocol

from cdk8s import Duration, Size
from msgspec import Meta

from dask_crds.kubernetes.core_v1 import EnvVarSource
from dask_crds.model import MAX_WORKERS
from dask_crds.quantity import parse_quantity
from dask_crds.validation.rules import LABEL, NAME
from dask_crds.validation.syntax import any_name

from .keywords import Plain


class Named(Protocol):
    """What Kubernetes knows by a name: a ServiceAccount, a Secret or the like of cdk8s-plus, or a construct of ours."""

    @property
    def name(self) -> str:
        """``metadata.name``."""


class CpuAmount(Protocol):
    """``Cpu`` of cdk8s-plus."""

    @property
    def amount(self) -> str:
        """As a quantity."""


class EnvValue(Protocol):
    """``EnvValue`` of cdk8s-plus."""

    @property
    def value(self) -> Any:
        """The text, if it is one."""

    @property
    def value_from(self) -> Any:
        """The source, if it has one."""


# --- numbers ----------------------------------------------------------------------------------------------------------

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Workers = Annotated[int, Meta(ge=0, le=MAX_WORKERS)]


def _seconds(given: object) -> object:
    if not isinstance(given, Duration):
        return given
    milliseconds = given.to_milliseconds()
    if milliseconds % 1000:
        raise ValueError(f"must be whole seconds, not {milliseconds / 1000:g} s")
    return int(milliseconds // 1000)


Seconds = Annotated[
    int | Duration, Plain(Annotated[int, Meta(ge=0, le=2**31 - 1)], "whole seconds, or a Duration", _seconds)
]


# --- quantities -------------------------------------------------------------------------------------------------------

_MEBIBYTE = 2**20
_MOST_CORES = 100_000


def _quantity(given: object) -> Decimal:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise ValueError(f"must be a number or a quantity such as 1.5, '500m' or '4Gi', not {reprlib.repr(given)}")
    number = parse_quantity(given)
    if number <= 0:
        raise ValueError(f"must be more than 0, not {given}")
    return number


def _cores(given: Any) -> object:
    given = getattr(given, "amount", given)
    number = _quantity(given)
    if number > _MOST_CORES:
        raise ValueError(f"{given!r} is {number:,.0f} cores; 2 and '500m' are CPUs, '2Gi' is memory")
    return written(given)


def memory_quantity(given: Any) -> str:
    """A quantity of bytes as text; raises ``ValueError`` for what is none, or not what people mean."""
    if isinstance(given, Size):
        given = given.as_string()
    number = _quantity(given)
    if number < _MEBIBYTE:
        raise ValueError(f"{given!r} is {number.normalize():f} bytes; gibibytes are written '{given}Gi'")
    return written(given)


def written(quantity: Any) -> str:
    """A quantity as the API server would write it, so that nothing sees a difference: ``0.5`` cores are ``500m``.

    Of a number, what is below a thousandth is rounded up, as Kubernetes does: nothing becomes 0. What Python's floats
    add (``0.1 + 0.2``) is left out.
    """
    if not isinstance(quantity, float):
        return str(quantity)
    milli = math.ceil(round(parse_quantity(quantity) * 1000, 6))
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


def _amount(given: Any) -> object:
    if isinstance(given, str) and parse_quantity(given) < 0:
        raise ValueError(f"must not be less than 0, not {given!r}")
    return given


Amount = Annotated[
    str | int,
    Plain(str | Annotated[int, Meta(ge=0)], "a whole number, or a quantity such as '500m' or '64Gi'", _amount),
]
Cores = Annotated[int | float | str | CpuAmount, Plain(str, "a number of CPUs", _cores)]
Memory = Annotated[int | float | str | Size, Plain(str, "a quantity of memory", memory_quantity)]


# --- names ------------------------------------------------------------------------------------------------------------


def _name_of(*kinds: str) -> Callable[[Any], object]:
    def read(given: Any) -> object:
        other = getattr(given, "kind", kinds[0])
        if not isinstance(given, str) and other not in kinds:
            raise ValueError(f"must be a {' or a '.join(kinds)}, not the {other} {given.name!r}")
        return getattr(given, "name", given)

    return read


def _dns_name(name: Any) -> Any:
    if isinstance(name, str) and name:
        for _, message in any_name("", name):
            raise ValueError(message)
    return name


def reference(*kinds: str) -> Plain:
    """The name of an object of one of the kinds, which may be handed in itself."""
    what = " or ".join(kinds)
    name = Annotated[str, Meta(min_length=1, max_length=253)]
    right = LABEL if kinds == ("Namespace",) else NAME
    return Plain(name, f"the name of a {what}, or a {what}", _name_of(*kinds), lambda given: right("", given))


Text = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, Plain(Text, "a name", _dns_name)]
ServiceAccount = Annotated[str | Named, reference("ServiceAccount")]
Cluster = Annotated[str | Named, reference("DaskCluster")]
ClusterOrJob = Annotated[str | Named, reference("DaskCluster", "DaskJob")]
WorkerGroup = Annotated[str | Named, reference("DaskWorkerGroup")]
Namespace = Annotated[str | Named, reference("Namespace")]
Secret = Annotated[str | Named, reference("Secret")]


# --- environment ------------------------------------------------------------------------------------------------------


def _variable(given: Any) -> object:
    if hasattr(given, "value_from") and not isinstance(given, Mapping):
        return given.value if given.value_from is None else given.value_from
    if isinstance(given, bool | int | float):
        raise ValueError(f"must be text, not {given!r}; write '{given}'")
    return given


EnvironmentValue = Annotated[
    str | EnvVarSource | EnvValue,
    Plain(str | dict[str, Any], "text, or a source as {'secretKeyRef': {'name': ..., 'key': ...}}", _variable),
]
