"""The cdk8s app of this repository: ``cdk8s synth`` and ``python -m dask_synth`` write ``dist/``."""

import dask_constructs as _dask_constructs  # noqa: F401 - first of all, so that jsii finds Node.js
