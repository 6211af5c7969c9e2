"""Side by side, in one run, on one API server with fake nodes: native Deployment, dask-gitops, dask-kubernetes.

    python -m bench                           # everything, in about an hour
    python -m bench --workers 200 --brief     # a minute
    python -m bench --only beside killed      # these scenarios

Absolute numbers say something about this machine only; the ratios to the native Deployment, and to the same thing
alone, are what counts, and they are of one run. kwok plays the kubelet: no container runs, so this measures operators
and the API server, not Dask. Results are written as they come, to `results.json` and `table.md`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import traceback
from pathlib import Path

from tests.cluster import ControlPlane

from .measure import Bench
from .operators import audit
from .report import plot, table
from .scenarios import BRIEF, SCENARIOS, line
from .scenarios.scale import profile


def arguments() -> argparse.ArgumentParser:
    scenarios = "\n".join(f"  {name:<10} {line(scenario)}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog=f"scenarios, in this order:\n{scenarios}",
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="SCENARIO", help="not all; see below")
    parser.add_argument("--brief", action="store_true", help=f"just {' and '.join(BRIEF)}, and no dask-kubernetes")
    parser.add_argument("--workers", type=int, nargs="+", default=[200, 1000], help="sizes of the one cluster")
    parser.add_argument("--largest", type=int, default=10_000, help="size that is measured once")
    parser.add_argument("--clusters", type=int, default=50, help="how many clusters of 2 workers, beside others' time")
    parser.add_argument("--many", type=int, default=1000, help="how many clusters of 2 workers, beside a small one's")
    parser.add_argument("--asked", type=int, default=1000, help="how many schedulers that answer")
    parser.add_argument("--silent", type=int, default=200, help="how many schedulers that do not")
    parser.add_argument("--queued", type=int, nargs="+", default=[100, 500], help="how many workers wait for quota")
    parser.add_argument("--seconds", type=float, default=60, help="for which CPU and idle writes are counted")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, for `changed`")
    parser.add_argument("--repeat", type=int, default=3, help="how often; the median counts")
    parser.add_argument("--profile", action="store_true", help="sample dask-gitops at the end, with py-spy")
    parser.add_argument("--patience", type=float, default=900, help="seconds after which a scenario is given up")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="folder for all results")
    return parser


def main() -> None:
    """Run the scenarios that the command line asks for; one that fails does not end the others."""
    parser = arguments()
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    for log in options.output.glob("*.log"):
        log.unlink()  # of the run before
    if options.before:
        options.before = options.before.resolve()
    elif "changed" in (options.only or ()):
        parser.error("`changed` needs --before, a checkout to compare with")
    usual = BRIEF if options.brief else [name for name in SCENARIOS if name != "changed" or options.before]
    chosen = [name for name in SCENARIOS if name in (options.only or usual)]
    failed: list[str] = []
    with ControlPlane(kwok_nodes=10, apiserver=audit(options.output)) as plane:
        bench = Bench(plane, options)
        try:
            for number, name in enumerate(chosen, 1):
                bench.say(f"--- {number} of {len(chosen)}, {name}: {line(SCENARIOS[name])}")
                try:
                    SCENARIOS[name](bench)
                except (RuntimeError, TimeoutError, OSError, subprocess.CalledProcessError):
                    traceback.print_exc()
                    failed.append(name)
                    plane.processes.check()  # else there is no sense in going on
            if options.profile:
                profile(bench, options.output)
        finally:
            plot(bench.results, options.output / "ratios.png")
            print("\n" + table(bench.results))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
