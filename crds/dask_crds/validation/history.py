"""Where a record is kept."""

from __future__ import annotations

from ..model import History
from .syntax import Problems


def history(path: str, stated: History) -> Problems:
    """In one place, as the rule of the schema says."""
    if stated.claim_name is None and stated.url is None:
        yield (
            f"{path}.claimName",
            "is missing: a record is kept in the volume of a claim, or in an object store by its url",
        )
    elif stated.claim_name is not None and stated.url is not None:
        yield f"{path}.url", "must be left out beside claimName: a record is kept in one place"
