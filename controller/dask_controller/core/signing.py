"""Whether a cluster's scheduler is given orders signed, and what its status says if not."""

from __future__ import annotations

from msgspec import Struct

from dask_crds.model import Certificate
from dask_crds.names import Port

from .pod import Pod


class Signing(Struct, frozen=True):
    """How it stands with the key of a cluster."""

    refused: str = ""  #: why the cluster is made without one
    known: bool = True  #: whether the operator knows it
    ensured: bool = True  #: whether its Secret was there lately
    certificate: Certificate | None = None  #: that has been put there lately
    authorities: tuple[str, ...] = ()  #: SHA-256 of the CAs that it may have, that of the operator's present key first


def is_signed(scheduler: Pod) -> bool:
    """Whether a scheduler has the key, and believes nobody without it: it has the port for that."""
    return Port.CONTROL.name in scheduler.ports


def shortcoming(signing: Signing, scheduler: Pod) -> str:
    """What is to be said of how that scheduler is given orders, after other words; empty if all is well."""
    if is_signed(scheduler):
        return "" if signing.known else f"; it takes signed orders only, and gets none: {signing.refused}"
    how = signing.refused or "it was started without a key, and has one when its template changes or it is suspended"
    return f"; it takes orders from anybody: {how}"
