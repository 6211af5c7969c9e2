"""What stays of a cluster or a run when its Pods have gone: a record in a volume or an object store."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .shared import DNS_NAME, Value, rule

#: Records of one cluster that may be kept; each has at most a few megabytes.
MOST_RECORDS = 1000
#: A folder within a volume as a pattern, its length apart: it never leads out of the volume, nor to hidden files.
FOLDER = r"[A-Za-z0-9_][-A-Za-z0-9._]*(/[A-Za-z0-9_][-A-Za-z0-9._]*)*"
MAX_FOLDER = 200
#: A folder of an object store as a pattern, its length apart: nothing of options or credentials.
STORE = rf"(s3|gs|az|abfs)://[A-Za-z0-9][-A-Za-z0-9._]*(/{FOLDER})?"
MAX_STORE = 300
#: A record is in one place.
PLACE_RULE = rule("has(self.claimName) != has(self.url)", "exactly one of claimName and url must be there")


class History(Value, frozen=True, kw_only=True):
    """Keeps a record of what the cluster did, written by its scheduler. A change restarts the scheduler."""

    DEFAULTS = {"keep": 10}

    claim_name: Annotated[str, Meta(extra_json_schema={"maxLength": 253, "pattern": f"^{DNS_NAME}$"})] | None = None
    """Name of a PersistentVolumeClaim in the same namespace, which the scheduler's user may write to."""
    url: Annotated[str, Meta(extra_json_schema={"maxLength": MAX_STORE, "pattern": f"^{STORE}$"})] | None = None
    """Instead: an object store, such as `s3://bucket/folder`, for which the scheduler's image has the library of fsspec
    (`s3fs`, `gcsfs`, `adlfs`). Credentials come from the Pod's environment or ServiceAccount."""
    path: Annotated[str, Meta(extra_json_schema={"maxLength": MAX_FOLDER, "pattern": f"^{FOLDER}$"})] | None = None
    """Folder within that volume or store. Omitted: its root."""
    keep: Annotated[int, Meta(ge=1, le=MOST_RECORDS)] | None = None
    """Newest records that are kept of the cluster or job. Omitted: 10."""


class Bundle(Value, frozen=True, kw_only=True):
    """Where the record is, by the scheduler's account."""

    claim_name: str | None = None
    """Name of the PersistentVolumeClaim that it is in."""
    url: str | None = None
    """The object store that it is in, as `spec.history` has it."""
    path: str | None = None
    """Folder within that volume or store; `index.html` there opens without a server. Omitted: there is none yet."""
    problem: str | None = None
    """Why it could not be written last."""
