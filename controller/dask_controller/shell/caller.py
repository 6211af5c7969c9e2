"""Who the operator is at the API server, and which kinds it deals with."""

from __future__ import annotations

import importlib.metadata

from dask_crds.kinds import QUEUES, RESOURCES, REVIEWS, VISIBILITY
from dask_crds.names import FIELD_MANAGER, STATUS_MANAGER

from ..kube.api import Caller

OPERATOR = Caller(
    kinds={**RESOURCES, **REVIEWS, **QUEUES, **VISIBILITY},
    field_manager=FIELD_MANAGER,
    status_manager=STATUS_MANAGER,
    user_agent=f"{FIELD_MANAGER}/{importlib.metadata.version('dask-gitops')}",
)
