"""What a change has cost: this checkout beside another one, in turns."""

from __future__ import annotations

from ..measure import Bench
from ..operators import BEFORE, OURS
from .neighbours import behind_many
from .scale import start_and_stop, start_clusters


def changed(bench: Bench) -> None:
    """The rows of `workers`, `clusters` and, once, `behind` by the checkout --before and by this one, in turns."""
    for turn in range(bench.options.repeat):
        for name in (BEFORE, OURS):
            with bench.operator(name) as operator:
                for size in bench.options.workers:
                    start_and_stop(bench, operator, size)
                start_clusters(bench, operator, bench.options.clusters)
                if not turn:
                    bench.restart(operator)
                    behind_many(bench, operator, bench.options.many, awaited=True)
