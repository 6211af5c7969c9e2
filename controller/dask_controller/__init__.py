"""The runtime half of dask-gitops: ``core`` decides, ``shell`` acts by two clients, ``kube`` and ``schedulers``.

``core`` is pure: what is desired and what is observed go in, a plan comes out. ``shell`` watches, asks, executes the
plan and writes status. ``kube`` knows Kubernetes and no Dask, ``schedulers`` the schedulers of Dask and no Kubernetes.
"""
