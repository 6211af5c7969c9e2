"""Which Kubernetes, and which namespaces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Where:
    """Options of where to look. Each may stand before the command as well as after it."""

    context: str | None = None  #: of the kubeconfig; its current one if not given
    kubeconfig: str | None = None  #: path of the file; that of ``kubectl`` if not given
    namespace: str | None = None  #: that of the context if not given
    everywhere: bool = False  #: in all namespaces
