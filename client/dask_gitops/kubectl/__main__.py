"""``python -m dask_gitops.kubectl``."""

from .cli import main

main()
