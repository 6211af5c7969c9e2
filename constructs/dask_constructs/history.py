"""Where a cluster keeps a record of what ran."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from dask_crds import model
from dask_crds.model import FOLDER, MAX_FOLDER, MAX_STORE, MOST_RECORDS, STORE

from .keywords import Plain
from .values import Named, reference


@dataclass(frozen=True)
class History:
    """A record of what ran, which the scheduler keeps while it works, and which stays when it has gone.

    >>> DaskJob(chart, "train", image="registry/train:1.4", command=["train"], history=History.claim("runs"))
    >>> DaskJob(chart, "train", image="registry/train:1.4", command=["train"], history=History.bucket("s3://runs/dask"))

    Attributes:
        claim_name: the PersistentVolumeClaim that it is in.
        path: folder within that volume or store (default: its root).
        keep: newest records that are kept of one cluster or job (default 10).
        url: the object store that it is in instead.
        given: the claim itself, where it was handed in.
    """

    claim_name: str | None = None
    path: str | None = None
    keep: int | None = None
    url: str | None = None
    given: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def claim(cls, claim: str | Named, *, path: str | None = None, keep: int | None = None) -> History:
        """In a PersistentVolumeClaim, or the one of that name, that the scheduler's user may write to.

        Where several schedulers keep theirs in one, it needs an access mode that lets Pods on all their nodes write.
        """
        name: Any = getattr(claim, "name", claim)
        return cls(name, path, keep, given=claim)

    @classmethod
    def bucket(cls, url: str, *, path: str | None = None, keep: int | None = None) -> History:
        """In an object store: ``s3://bucket/folder``, ``gs://``, ``az://`` or ``abfs://``.

        The scheduler's image needs the library for it, s3fs, gcsfs or adlfs, and its ServiceAccount or environment the
        credentials.
        """
        return cls(path=path, keep=keep, url=url)


def _history(given: object) -> History:
    if not isinstance(given, History):
        of = "bucket" if "://" in str(given) else "claim"
        meant = f"; write History.{of}({given!r})" if isinstance(given, str) and given else ""
        raise ValueError(f"must be History.claim(...) or History.bucket(...), not {given!r}{meant}")
    if given.claim_name is None:
        if not (isinstance(given.url, str) and len(given.url) <= MAX_STORE and re.fullmatch(STORE, given.url)):
            raise ValueError(f"must be a folder of an object store, 's3://bucket/folder' say, not {given.url!r}")
    elif not isinstance(given.claim_name, str) or not given.claim_name:
        raise ValueError(f"must name a PersistentVolumeClaim, not {given.claim_name!r}")
    if given.given is not None:
        reference("PersistentVolumeClaim").read(given.given)
    path, keep = given.path, given.keep
    if path is not None and not (isinstance(path, str) and len(path) <= MAX_FOLDER and re.fullmatch(FOLDER, path)):
        wanted = f"a folder within it, 'dask/runs' say, of at most {MAX_FOLDER} characters"
        raise ValueError(f"path must be {wanted}, not {path!r}")
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or not 1 <= keep <= MOST_RECORDS):
        raise ValueError(f"keep must be a whole number from 1 to {MOST_RECORDS}, not {keep!r}")
    return given


#: Keyword argument of what has a cluster.
Kept = Annotated[History, Plain(Any, "History.claim(...) or History.bucket(...)", _history)]


def stated(history: History | None) -> model.History | None:
    """What the spec of a cluster says."""
    if history is None:
        return None
    return model.History(claim_name=history.claim_name, url=history.url, path=history.path, keep=history.keep)
