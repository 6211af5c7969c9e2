"""Real Kubernetes for tests: a control plane with fake nodes, a real node, or a cluster of yours."""

from .control_plane import ControlPlane

__all__ = ["ControlPlane"]
