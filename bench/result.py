"""What was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One measurement."""

    what: str  #: which scenario
    who: str  #: which operator
    value: float  #: infinite: given up
    unit: str = "s"
    than: str = ""  #: with which scenario of the same operator it is compared, besides the native one
    cpu_seconds: float = 0.0  #: of the operator
    peak_mib: float = 0.0  #: the most memory that the operator has had since it started
    writes: int = 0  #: of the operator on the API server, without its Lease
    detail: str = ""
