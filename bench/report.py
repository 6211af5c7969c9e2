"""What was measured, for people."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .operators import ACTIVATOR, BEFORE, NATIVE, NOBODY, OURS, THEIRS
from .result import Result


def write(results: Sequence[Result], folder: Path) -> None:
    """All results as they are, ``results.json``, and their medians, ``table.md``."""
    plain = [asdict(result) | {"value": result.value if math.isfinite(result.value) else None} for result in results]
    for name, text in (("results.json", json.dumps(plain, indent=1)), ("table.md", table(results))):
        new = folder / f"{name}.new"
        new.write_text(f"{text}\n")
        new.replace(folder / name)  # nobody finds half a file, whenever we are cut


def medians(results: Sequence[Result]) -> dict[tuple[str, str], Result]:
    """Of the repetitions of each scenario by each operator, the one in the middle (of an even number, the greater)."""
    repeated: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        repeated.setdefault((result.what, result.who), []).append(result)
    return {
        key: next(r for r in found if r.value == statistics.median_high(r.value for r in found))
        for key, found in repeated.items()
    }


def table(results: Sequence[Result]) -> str:
    """Markdown: medians, with ratios to the native Deployment and to what else of the same run they stand beside."""
    found = medians(results)
    lines = [
        "| scenario | operator | median | all | x native | compared | CPU s | peak MiB | API writes |",
        "|---|---|---:|---|---:|---|---:|---:|---:|",
    ]
    notes = []
    for what in dict.fromkeys(what for what, _ in found):
        for who in (NATIVE, NOBODY, BEFORE, OURS, THEIRS, ACTIVATOR):
            if (result := found.get((what, who))) is None:
                continue
            old = found.get((what, BEFORE)) if who == OURS else None
            everything = [shown(r) for r in sorted(results, key=lambda r: r.value) if (r.what, r.who) == (what, who)]
            other = found.get((result.than, who))
            cells = [
                *(what, who, shown(result), " ".join(everything) if len(everything) > 1 else ""),
                "" if who == NATIVE else ratio(result, found.get((what, NATIVE))),
                f"{ratio(result, other)} x {result.than}" if other else f"{ratio(result, old)} x before" if old else "",
                f"{result.cpu_seconds:.1f}" if result.cpu_seconds else "",
                f"{result.peak_mib:.0f}" if result.peak_mib else "",
                f"{result.writes:,}" if result.writes else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
            if result.detail:
                notes.append(f"- {what}, {who}: {result.detail}")
    return "\n".join([*lines, "", *notes])


def shown(result: Result) -> str:
    """A value with its unit."""
    value = result.value
    if not math.isfinite(value):
        return "given up"
    number = f"{value:,}" if isinstance(value, int) else f"{value:.2g}" if value < 1 else f"{value:,.1f}"
    return f"{number} {result.unit}".rstrip()


def ratio(result: Result, other: Result | None) -> str:
    if other is None or not other.value or not math.isfinite(other.value):
        return ""
    return f"{result.value / other.value:.2f}" if math.isfinite(result.value) else "∞"


def plot(results: Sequence[Result], path: Path) -> None:
    """Bars of the ratios to a native Deployment."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = medians(results)
    scenarios = [what for what, who in found if who == NATIVE and found[what, who].value]
    if not scenarios:
        return
    figure, axes = plt.subplots(figsize=(8, 1 + 0.6 * len(scenarios)), layout="constrained")
    for offset, who in enumerate((NATIVE, OURS, THEIRS)):
        ratios = [
            found[what, who].value / found[what, NATIVE].value
            if (what, who) in found and math.isfinite(found[what, who].value)
            else math.nan
            for what in scenarios
        ]
        bars = axes.barh([n + 0.27 * (offset - 1) for n in range(len(scenarios))], ratios, 0.25, label=who)
        axes.bar_label(bars, fmt="%.2g", fontsize=7)
    axes.set_yticks(range(len(scenarios)), scenarios, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("compared with a native Deployment")
    axes.set_xscale("log")
    axes.legend()
    figure.savefig(path, dpi=150)
