"""``python -m dask_controller run``."""

import sys

# kopf imports these Kubernetes clients where they are installed, to recognise their objects. We have none of these, and
# they would take twice the memory of all the rest. ``None``: as if not installed.
sys.modules.update(dict.fromkeys(("kubernetes", "kubernetes_asyncio", "pykube")))  # type: ignore[arg-type]

# A stranger's object may be nested as deep as the API server takes it, some 10,000 levels in ``managedFields`` (tried
# with 1.37.2); kopf reads it with `json`, which counts levels against this limit, and ends if that is exceeded.
sys.setrecursionlimit(11_000)

try:
    from .shell.main import main
except ModuleNotFoundError as error:
    if (error.name or "").startswith("dask_"):
        raise
    # The command is there with whatever extra was installed.
    sys.exit(f"dask-controller needs {error.name}: pip install 'dask-gitops[controller]'")

if __name__ == "__main__":
    main()
