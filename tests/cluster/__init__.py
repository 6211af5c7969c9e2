"""Real Kubernetes: a control plane with fake nodes, a real node, one of kind's, or a cluster of yours."""

from .control_plane import ControlPlane
from .external import External
from .kind import Kind
from .machine import Unavailable
from .node import Node

__all__ = ["ControlPlane", "External", "Kind", "Node", "Unavailable"]
