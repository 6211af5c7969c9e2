"""The runtime half of dask-gitops: ``core`` decides, ``shell`` acts.

``core`` is pure: what is desired and what is observed go in, a plan comes out. ``shell`` watches, asks, executes the
plan and writes status.
"""
