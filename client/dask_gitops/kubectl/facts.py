"""Reading objects in which any field may be missing or of another type, and words of others that a terminal shows."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Manifest = Mapping[str, Any]

#: Characters that are shown of a message.
LONGEST = 1024


def at(manifest: object, *path: str) -> Any:
    """The value at a path of keys, ``None`` where there is none."""
    for key in path:
        if not isinstance(manifest, Mapping):
            return None
        manifest = manifest.get(key)
    return manifest


def text(manifest: object, *path: str) -> str:
    """The text at a path, fit for a terminal; empty where there is none."""
    value = at(manifest, *path)
    return plain(value) if isinstance(value, str) else ""


def number(manifest: object, *path: str) -> int:
    """The whole number at a path, 0 where there is none."""
    value = at(manifest, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def maps(manifest: object, *path: str) -> list[Manifest]:
    """The maps in the list at a path."""
    value = at(manifest, *path)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def name_of(manifest: Manifest) -> str:
    """``metadata.name``."""
    return text(manifest, "metadata", "name")


def namespace_of(manifest: Manifest) -> str:
    """``metadata.namespace``."""
    return text(manifest, "metadata", "namespace")


def uid_of(manifest: Manifest) -> str:
    """``metadata.uid``."""
    return text(manifest, "metadata", "uid")


def label(manifest: Manifest, key: str) -> str:
    """The value of a label, empty without it."""
    return text(manifest, "metadata", "labels", key)


def controller(manifest: Manifest) -> Manifest:
    """The owner reference of the controller, empty without one."""
    owners = maps(manifest, "metadata", "ownerReferences")
    return next((owner for owner in owners if owner.get("controller") is True), {})


def belongs_to(manifest: Manifest, owner: Manifest) -> bool:
    """Whether an object is a child of another: by uid, as labels are claims."""
    uid = uid_of(owner)
    return bool(uid) and text(controller(manifest), "uid") == uid


def condition(manifest: Manifest, type_: str) -> Manifest:
    """The condition of that type, empty without one."""
    return next((c for c in maps(manifest, "status", "conditions") if c.get("type") == type_), {})


def holds(manifest: Manifest, type_: str) -> bool:
    """Whether the condition of that type is True."""
    return condition(manifest, type_).get("status") == "True"


def seconds(value: object) -> float | None:
    """RFC 3339 as seconds since 1970, ``None`` if it is no time."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def plain(value: str, longest: int = LONGEST) -> str:
    """Words of others without what moves a cursor or changes colours, on one line."""
    if len(value) <= longest and value.isprintable() and "  " not in value:
        return value.strip()
    words = " ".join(value[: 4 * longest].split())
    kept = "".join(c for c in words if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    return kept if len(kept) <= longest else f"{kept[: longest - 1]}…"


def ago(then: float | None, now: float) -> str:
    """How long ago, in the largest whole unit, as ``kubectl get`` says it; empty where it isn't known."""
    if then is None:
        return ""
    passed = max(0, int(now - then))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if passed >= 2 * length:
            return f"{passed // length}{unit}"
    return f"{passed}s"
