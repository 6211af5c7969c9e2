"""``python -m dask_controller run``."""

import sys

# kopf imports these Kubernetes clients where they are installed, to recognise their objects. We have none of these, and
# they would take twice the memory of all the rest. ``None``: as if not installed.
sys.modules.update(dict.fromkeys(("kubernetes", "kubernetes_asyncio", "pykube")))  # type: ignore[arg-type]

from .shell.main import main  # noqa: E402

if __name__ == "__main__":
    main()
