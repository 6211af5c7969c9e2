"""The cdk8s app of this repository: ``cdk8s synth`` and ``python -m dask_synth`` write ``dist/``.

``python -m dask_synth init DIR`` starts a repository of your own, which uses ``kustomization`` and ``schemas``.
"""

import dask_constructs as _dask_constructs  # noqa: F401 - first of all, so that jsii finds Node.js

from .app import kustomization, schemas

__all__ = ["kustomization", "schemas"]
