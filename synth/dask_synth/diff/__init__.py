"""What a commit would change in the cluster's terms: ``dask-synth diff``.

`manifests` of before and after go through `state` (what the operator makes of each resource) and `changes` (what
becomes of that) into a `Report`, which `text` writes.
"""

from .changes import Change, Report, Resource, compared

__all__ = ["Change", "Report", "Resource", "compared"]
