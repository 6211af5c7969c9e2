"""Where a cluster keeps a record of what ran."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from dask_crds import model
from dask_crds.model import FOLDER, MAX_FOLDER, MOST_RECORDS

from .keywords import Plain
from .values import Named, reference


@dataclass(frozen=True)
class History:
    """A record of what ran, which the scheduler keeps in a volume while it works, and which stays when it has gone.

    >>> DaskJob(chart, "train", image="registry/train:1.4", command=["train"], history=History.claim("runs"))

    Attributes:
        claim_name: the PersistentVolumeClaim that it is in.
        path: folder within that volume (default: its root).
        keep: newest records that are kept of one cluster or job (default 10).
        given: the claim itself, where it was handed in.
    """

    claim_name: str
    path: str | None = None
    keep: int | None = None
    given: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def claim(cls, claim: str | Named, *, path: str | None = None, keep: int | None = None) -> History:
        """In a PersistentVolumeClaim, or the one of that name, that the scheduler's user may write to.

        Where several schedulers keep theirs in one, it needs an access mode that lets Pods on all their nodes write.
        """
        name: Any = getattr(claim, "name", claim)
        return cls(name, path, keep, claim)


def _history(given: object) -> History:
    if not isinstance(given, History):
        meant = f"; write History.claim({given!r})" if isinstance(given, str) and given else ""
        raise ValueError(f"must be History.claim(...), not {given!r}{meant}")
    if not isinstance(given.claim_name, str) or not given.claim_name:
        raise ValueError(f"must name a PersistentVolumeClaim, not {given.claim_name!r}")
    if given.given is not None:
        reference("PersistentVolumeClaim").read(given.given)
    path, keep = given.path, given.keep
    if path is not None and not (isinstance(path, str) and len(path) <= MAX_FOLDER and re.fullmatch(FOLDER, path)):
        wanted = f"a folder within the volume, 'dask/runs' say, of at most {MAX_FOLDER} characters"
        raise ValueError(f"path must be {wanted}, not {path!r}")
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or not 1 <= keep <= MOST_RECORDS):
        raise ValueError(f"keep must be a whole number from 1 to {MOST_RECORDS}, not {keep!r}")
    return given


#: Keyword argument of what has a cluster.
Kept = Annotated[History, Plain(Any, "History.claim(...)", _history)]


def stated(history: History | None) -> model.History | None:
    """What the spec of a cluster says."""
    if history is None:
        return None
    return model.History(claim_name=history.claim_name, path=history.path, keep=history.keep)
