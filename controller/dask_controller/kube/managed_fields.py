"""Who has written which fields of an object, as the API server notes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_applied(metadata: Mapping[str, Any], manager: str) -> dict[str, Any] | None:
    """``metadata`` by which what ``manager`` has created or patched counts as applied; ``None`` if there is no need.

    Until then a field that is left out of what is applied would stay, as one that the creator still wants.
    client-go does the same: https://pkg.go.dev/k8s.io/client-go/util/csaupgrade
    """
    entries = metadata.get("managedFields") or []
    ours = [entry for entry in entries if entry.get("manager") == manager]
    written = [entry for entry in ours if not entry.get("subresource") and entry.get("operation") != "Apply"]
    if not written:
        return None
    applied = any(entry.get("operation") == "Apply" for entry in ours)
    upgraded = [] if applied else [{**written[0], "operation": "Apply"}]
    return {
        "managedFields": [*(entry for entry in entries if entry not in written), *upgraded],
        "resourceVersion": metadata["resourceVersion"],
    }
