"""The package as its users import it."""

from __future__ import annotations

from pathlib import Path

import dask_constructs


def test_no_package_shadows_constructs_of_pypi() -> None:
    """A file ``constructs/__init__.py`` would break every synth that is run from the root of the repository."""
    assert not (Path(__file__).parents[2] / "constructs" / "__init__.py").exists()


def test_its_names_stay() -> None:
    """Users' programs import them."""
    assert dask_constructs.__all__ == [
        "ArgoCDApplications",
        "ArgoCDSettings",
        "ArgoCDTenant",
        "ClusterQueue",
        "DaskActivator",
        "DaskAdmissionPolicy",
        "DaskAutoscaler",
        "DaskCluster",
        "DaskClusterMonitor",
        "DaskClusterTemplate",
        "DaskCronJob",
        "DaskCustomResourceDefinitions",
        "DaskExposure",
        "DaskGuardrails",
        "DaskJob",
        "DaskMonitoring",
        "DaskNetworkPolicy",
        "DaskOperator",
        "DaskResource",
        "DaskTenant",
        "DaskWorkerGroup",
        "FluxKustomizations",
        "FluxTenant",
        "History",
        "LocalQueue",
        "ResourceFlavor",
        "Source",
        "Tls",
        "Volume",
        "problems",
    ]
    assert all(hasattr(dask_constructs, name) for name in dask_constructs.__all__)
