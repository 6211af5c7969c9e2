"""What was measured, for people."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from .operators import NATIVE, NOBODY, OURS, THEIRS
from .scenarios import Result


def medians(results: Sequence[Result]) -> dict[tuple[str, str], Result]:
    """Of the repetitions of each scenario by each operator, the one in the middle (of an even number, the slower)."""
    repeated: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        repeated.setdefault((result.what, result.who), []).append(result)
    return {
        key: next(r for r in found if r.value == statistics.median_high(r.value for r in found))
        for key, found in repeated.items()
    }


def table(results: Sequence[Result]) -> str:
    """Markdown: medians, with ratios to the native Deployment of the same run; then whatever is no duration."""
    found = medians(results)
    scenarios = dict.fromkeys(what for what, _ in found)
    lines = [
        "| scenario | operator | seconds | all | x native | CPU s | peak MiB | API writes |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    notes = []
    for what in scenarios:
        for who in (NATIVE, NOBODY, OURS, THEIRS):
            if (result := found.get((what, who))) is None:
                continue
            if result.unit != "s":
                notes.append(f"- {what}: {result.value:.3g} {result.unit} ({result.detail})")
                continue
            values = " ".join(sorted(seconds(r.value) for r in results if (r.what, r.who) == (what, who)))
            ratio = f"{result.value / found[what, NATIVE].value:.2f}" if (what, NATIVE) in found else ""
            own = ["", ""] if who in (NATIVE, NOBODY) else [f"{result.cpu_seconds:.1f}", f"{result.peak_mib:.0f}"]
            cells = [what, who, seconds(result.value), values, ratio, *own, str(result.writes)]
            lines.append(f"| {' | '.join(cells)} |")
            if result.detail:
                notes.append(f"- {what}: {result.detail}")
    return "\n".join([*lines, "", *notes])


def seconds(value: float) -> str:
    return f"{value:.2g}" if value < 1 else f"{value:.1f}" if math.isfinite(value) else "given up"


def plot(results: Sequence[Result], path: Path) -> None:
    """Bars of the ratios to a native Deployment."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = medians(results)
    scenarios = [what for what, who in found if who == NATIVE]
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for offset, who in enumerate((NATIVE, OURS, THEIRS)):
        ratios = [
            found[what, who].value / found[what, NATIVE].value
            if (what, who) in found and math.isfinite(found[what, who].value)
            else math.nan
            for what in scenarios
        ]
        bars = axes.bar([n + 0.27 * (offset - 1) for n in range(len(scenarios))], ratios, 0.25, label=who)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.set_xticks(range(len(scenarios)), scenarios, fontsize=8)
    axes.set_ylabel("time / time of a native Deployment")
    axes.set_yscale("log")
    axes.legend()
    figure.savefig(path, dpi=150)
