"""Who is meant by a rule of a NetworkPolicy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .values import Text

#: A namespace by its name, or a peer as a NetworkPolicy has it: ``{"ipBlock": {"cidr": "192.0.2.0/24"}}``.
Peer = Text | Mapping[str, Any]

#: The label that Kubernetes itself puts on every namespace.
_NAME_LABEL = "kubernetes.io/metadata.name"


def peer(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """A peer of a NetworkPolicy: all Pods of a namespace, if it is given by name."""
    return {"namespaceSelector": {"matchLabels": {_NAME_LABEL: given}}} if isinstance(given, str) else dict(given)
