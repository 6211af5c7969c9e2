"""What Kubernetes takes for a name, a label, and a key of labels or annotations."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping

from .. import names
from ..model import CLUSTER_NAME, LABEL_VALUE
from ..model import DNS_NAME as _DNS_NAME

_SERVICE_NAME = re.compile(CLUSTER_NAME)
DNS_LABEL = re.compile(rf"(?!.{{64}}){names.DNS_LABEL}")
DNS_NAME = re.compile(rf"(?!.{{254}}){_DNS_NAME}")
_LABEL_VALUE = re.compile(rf"(?!.{{64}}){LABEL_VALUE}")
_KEY_NAME = re.compile(r"(?!.{64})[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?")

#: Bytes of all annotations of an object, keys included.
MOST_ANNOTATIONS = 256 * 1024

Problems = Iterator[tuple[str, str]]  #: field, what is wrong with it


def cluster_name(path: str, name: str) -> Problems:
    """What keeps a DaskCluster from having a name."""
    if len(name) > names.MAX_CLUSTER_NAME:
        limit = f"must have at most {names.MAX_CLUSTER_NAME} characters, has {len(name)}"
        yield path, f"{limit}: the Service is named <name>-scheduler"
    if not _SERVICE_NAME.fullmatch(name):
        yield path, f"{name!r} must be a DNS label that starts with a letter: the Service is named after it"


def group_name(path: str, name: str) -> Problems:
    """What keeps a DaskWorkerGroup from having a name."""
    if len(name) > names.MAX_GROUP_NAME:
        limit = f"must have at most {names.MAX_GROUP_NAME} characters, has {len(name)}"
        yield path, f"{limit}: it is a label of the workers"
    if not DNS_NAME.fullmatch(name):
        yield path, f"{name!r} must be a DNS name: the workers are named after it"


def any_name(path: str, name: str) -> Problems:
    """What keeps every object from having a name."""
    if not DNS_NAME.fullmatch(name):
        yield path, f"{name!r} must be a DNS name: a-z, 0-9, '-' and '.', at most 253 characters"


def labels_and_annotations(
    path: str, labels: Mapping[str, str] | None, annotations: Mapping[str, str] | None
) -> Problems:
    """Keys and values that Kubernetes takes for neither."""
    for field, keys in (("labels", labels), ("annotations", annotations)):
        if field == "annotations" and (size := annotations_size(keys or {})) > MOST_ANNOTATIONS:
            yield f"{path}.{field}", f"have {size:,} bytes together, at most {MOST_ANNOTATIONS:,} are possible"
        for key, value in (keys or {}).items():
            if not is_key(key if field == "labels" else key.lower()):
                example = "letters, digits, '-', '_' and '.', at most 63, maybe after a DNS name and '/'"
                yield f"{path}.{field}", f"{reprlib.repr(key)} is not a key: {example}"
            if field == "labels" and not is_label_value(value):
                limit = "at most 63 letters, digits, '-', '_' and '.'"
                yield f"{path}.{field}.{key}", f"{reprlib.repr(value)} is not a label: {limit}"


def annotations_size(annotations: Mapping[str, object]) -> int:
    """Bytes of annotations as Kubernetes counts them, of which `MOST_ANNOTATIONS` are possible."""
    return sum(len(f"{key}{value}".encode(errors="replace")) for key, value in annotations.items())


def is_key(key: str) -> bool:
    """Whether labels and annotations can have the key."""
    domain, slash, name = key.rpartition("/")
    return bool(_KEY_NAME.fullmatch(name)) and (not slash or bool(DNS_NAME.fullmatch(domain)))


def is_label_value(value: str) -> bool:
    """Whether a label can have the value."""
    return _LABEL_VALUE.fullmatch(value) is not None
