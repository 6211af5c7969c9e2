"""Side by side, in one run, on one API server with fake nodes: native Deployment, dask-gitops, dask-kubernetes.

    python -m bench                           # everything, in about 15 minutes
    python -m bench --workers 200 --brief     # a minute

Absolute numbers say something about this machine only; the ratios to the native Deployment are what counts, and they
are of one run. kwok plays the kubelet: no container runs, so this measures operators and the API server, not Dask.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.cluster import ControlPlane

from .operators import NATIVE, NOBODY, OURS, THEIRS, Operator, audit
from .report import plot, table
from .scenarios import Bench


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[200, 1000], help="sizes of the one cluster")
    parser.add_argument("--clusters", type=int, default=50, help="how many clusters of 2 workers")
    parser.add_argument("--repeat", type=int, default=3, help="how often; the median counts")
    parser.add_argument("--brief", action="store_true", help="no fairness, memory, idleness, nor dask-kubernetes")
    parser.add_argument("--profile", action="store_true", help="sample dask-gitops at the end, with py-spy")
    parser.add_argument("--patience", type=float, default=300, help="seconds after which a scenario is given up")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="folder for all results")
    return parser


def main() -> None:
    """Run the scenarios that the command line asks for."""
    options = arguments().parse_args()
    output: Path = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    most = max(options.workers)
    with ControlPlane(kwok_nodes=10, apiserver=audit(output)) as plane:
        bench = Bench(plane, options.patience)
        native, ours, theirs = (Operator(name, plane, output) for name in (NATIVE, OURS, THEIRS))
        with ours:
            for _ in range(options.repeat):
                for operator in (native, ours):  # in turns, so that what else the machine does concerns both
                    for workers in options.workers:
                        bench.start_and_stop(operator, workers)
                    bench.start_clusters(operator, options.clusters)
                    if not options.brief:
                        bench.fairness(operator, most)
            if options.profile:
                with ours.profiled(output / "workers.speedscope.json"):
                    bench.start_and_stop(ours, most)
                with ours.profiled(output / "clusters.speedscope.json"):
                    bench.start_clusters(ours, options.clusters)
            if not options.brief:
                bench.idleness(ours, 10, 60.0)
                bench.memory(ours, [0, most // 2, most, 2 * most])
        for _ in range(options.repeat):
            bench.create_clusters(Operator(NOBODY, plane, output), options.clusters)
        if not options.brief:
            with theirs:
                bench.start_and_stop(theirs, min(options.workers))  # it is slow, and its rate is known then
                bench.start_clusters(theirs, options.clusters)
    (output / "table.md").write_text(table(bench.results) + "\n")
    plot(bench.results, output / "ratios.png")
    print("\n" + table(bench.results))


if __name__ == "__main__":
    main()
