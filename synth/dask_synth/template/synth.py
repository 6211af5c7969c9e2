"""Our Dask platform: one `Environment` for each place that it runs in. `python synth.py` writes `dist/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dask_constructs import (
    ArgoCDApplications,
    ArgoCDSettings,
    DaskAdmissionPolicy,
    DaskCluster,
    DaskCustomResourceDefinitions,
    DaskJob,
    DaskOperator,
    DaskTenant,
    FluxKustomizations,
    Source,
    Tls,
)
from dask_synth import kustomization, output, schemas

from cdk8s import App, Chart  # isort: skip - after dask_constructs, which finds Node.js for it

DIST = Path(__file__).parent / "dist"
REPOSITORY = "https://github.com/example/dask-platform.git"  # this one
TEAM = "analytics"

PROGRAM = """\
from distributed import Client

with Client() as client:
    squares = client.map(lambda number: number**2, range(10))
    print("result:", client.submit(sum, squares).result())
"""


@dataclass(frozen=True)
class Environment:
    """What differs from one place to the next."""

    name: str
    operator_image: str = "@OPERATOR_IMAGE@"
    dask_image: str = "ghcr.io/dask/dask:2026.8.0"
    worker_memory: str = "2Gi"
    maximum_workers: int = 4
    quota_cpus: str = "16"


DEV = Environment("dev")
PROD = Environment("prod", worker_memory="16Gi", maximum_workers=50, quota_cpus="256")


def crds(chart: Chart, environment: Environment) -> None:
    DaskCustomResourceDefinitions(chart, "crds")


def operator(chart: Chart, environment: Environment) -> None:
    DaskOperator(chart, "operator", image=environment.operator_image, crds=False)
    DaskAdmissionPolicy(chart, "policy", maximum_workers=environment.maximum_workers)
    DaskTenant(
        chart,
        "team",
        namespace=TEAM,
        quota={"requests.cpu": environment.quota_cpus, "pods": environment.maximum_workers * 4},
        groups=[TEAM],
    )


def workloads(chart: Chart, environment: Environment) -> None:
    image, memory = environment.dask_image, environment.worker_memory
    cluster = DaskCluster(
        chart,
        "cluster",
        name="analytics",
        namespace=TEAM,
        image=image,
        memory=memory,
        idle_timeout=3600,
        idle_action="Suspend",
        security=Tls.generated(),  # with cert-manager Tls.cert_manager()
    )
    cluster.autoscale(minimum=0, maximum=environment.maximum_workers)
    DaskJob(
        chart,
        "hello",
        name="hello",
        namespace=TEAM,
        image=image,
        memory=memory,
        command=["python3", "-c", PROGRAM],
        run_id="1",
        security=Tls.generated(),
    )


def source(environment: Environment) -> Source:
    """Where the GitOps tool finds the folders above."""
    folder = f"dist/{environment.name}"
    return Source(REPOSITORY, manifests=folder, workloads=f"{folder}/workloads")


def argocd(chart: Chart, environment: Environment) -> None:
    ArgoCDSettings(chart, "settings")
    ArgoCDApplications(
        chart, "applications", source=source(environment), workload_namespaces=[TEAM], tenants=[TEAM]
    )


def flux(chart: Chart, environment: Environment) -> None:
    FluxKustomizations(chart, "kustomizations", source=source(environment))


def write(directory: Path, environment: Environment, part: Callable[[Chart, Environment], None]) -> None:
    """One folder: one file of manifests and a kustomization."""
    app = App(outdir=str(directory), output_file_extension=".yaml")
    part(Chart(app, part.__name__), environment)
    app.synth()
    kustomization(directory)


if __name__ == "__main__":
    with output(DIST) as dist:  # a mistake leaves the old one as it was
        for place in (DEV, PROD):
            for folder in (crds, operator, workloads, argocd, flux):
                write(dist / place.name / folder.__name__, place, folder)
        schemas(dist / "schemas")
