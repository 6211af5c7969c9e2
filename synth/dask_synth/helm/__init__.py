"""A Helm chart of the operator, made from the same construct as ``dist/``."""

from dask_constructs.operator_pod import NAME

from .chart import chart

__all__ = ["NAME", "chart"]
