"""Revisions: whether a running Pod was made from the template that is asked for now."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def revision(template: Any) -> str:
    """Short hash of what a user wrote, fit for a label.

    It covers the user's template alone, not the manifest built from it, so neither the API server's defaults nor an
    upgrade of the operator restarts anything.
    """
    canonical = json.dumps(_without_empty(template), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def _without_empty(value: Any) -> Any:
    """Drop null, ``{}`` and ``[]``: clients send them for what others leave out.

    Members of lists stay: there ``{}`` can mean something (an empty peer of a NetworkPolicy, say).
    """
    if isinstance(value, dict):
        items = {key: _without_empty(item) for key, item in value.items()}
        # `emptyDir: {}` and its like choose a kind of volume: an empty object in a volume is not nothing.
        return {
            key: item
            for key, item in items.items()
            if item is not None and ((item != [] and item != {}) or key in _CHOICES)
        }
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value


_CHOICES = {"emptyDir", "podCertificate", "downwardAPI", "ephemeral"}
