"""What Argo CD and Flux have to know of Dask resources, and how they apply this repository."""

from __future__ import annotations

from pathlib import Path

#: Health checks and actions, laid out as in Argo CD's repository.
RESOURCE_CUSTOMIZATIONS = Path(__file__).parent / "argocd" / "resource_customizations"
