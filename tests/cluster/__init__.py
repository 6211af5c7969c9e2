"""Real Kubernetes for tests: a control plane with fake nodes, a real node, or a cluster of yours."""

from .components import Unavailable
from .control_plane import ControlPlane
from .external import External
from .node import Node

__all__ = ["ControlPlane", "External", "Node", "Unavailable"]
