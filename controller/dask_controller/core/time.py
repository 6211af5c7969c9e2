"""Points in time as Kubernetes writes them. The clock itself is the shell's; planners are given ``now``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

#: Seconds since the epoch.
Time = float


def parse_time(text: str) -> Time:
    """The time that an RFC 3339 string names.

    Raises:
        ValueError, OverflowError: it names none, or one that cannot be written in UTC, as the zone has moved its year.
    """
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def created(metadata: Mapping[str, Any]) -> Time:
    """When an object was created; 0 before the API server has seen it."""
    return time_or(str(metadata.get("creationTimestamp") or ""), 0.0)


def time_or(text: str, otherwise: Time) -> Time:
    """The time that a string names, if it does: others write into status as well."""
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        return otherwise


def format_time(time: Time) -> str:
    """RFC 3339 in whole seconds, as ``metav1.Time``."""
    return datetime.fromtimestamp(int(time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
