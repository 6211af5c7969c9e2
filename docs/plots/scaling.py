"""Draw `docs/plots/scaling.svg` from a recording of the end-to-end test of lossless scaling.

`RECORDING=run.json pytest tests/e2e/test_lossless.py -k no_key`, then `python docs/plots/scaling.py run.json [FILE]`.
"""

import json
import sys
from itertools import groupby, pairwise
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

COLOURS = {"default": "#2471a3", "extra": "#c0562b"}
DRAINING = {"paused", "closing", "closing_gracefully"}
ON_TOP = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8.5}


def group(worker: str) -> str:
    """The group of the worker `<cluster>-<group>-worker-<number>-<incarnation>`."""
    return worker.partition("-worker-")[0].rpartition("-")[2]


def changes(times: list[float], values: list) -> tuple[list[float], list]:
    """Only the points that a line of steps needs: where it changes, and the last one."""
    kept = [i for i in range(len(values)) if i in (0, len(values) - 1) or values[i] != values[i - 1]]
    return [times[i] for i in kept], [values[i] for i in kept]


def main(recording: Path, picture: Path) -> None:
    """Write the picture."""
    run = json.loads(recording.read_text())
    samples, marks = run["samples"], run["marks"]
    times = [sample["time"] for sample in samples]
    names = list(dict.fromkeys(w["name"] for sample in samples for w in sample["workers"]))
    names = [n for g in COLOURS for n in names if group(n) == g]  # by group, then as they came

    plt.rcParams |= {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "scaling"}
    plt.rcParams |= {"axes.spines.right": False, "axes.spines.top": False}
    sizes = {"sharex": True, "layout": "constrained", "height_ratios": [3, 2, 1, 1, 0.8]}
    figure, (workers, data, moved, tasks, running) = plt.subplots(5, 1, figsize=(9, 9), **sizes)

    for row, name in enumerate(names):
        states = [next((w["status"] for w in sample["workers"] if w["name"] == name), None) for sample in samples]
        spells = groupby(zip(states, pairwise(times), strict=False), key=lambda state: state[0])
        for status, spell in spells:
            if status:
                spans = [span for _, span in spell]
                bar = {"color": COLOURS[group(name)], "alpha": 0.35 if status in DRAINING else 1, "linewidth": 0}
                workers.barh(row, spans[-1][1] - spans[0][0], left=spans[0][0], height=0.7, **bar)
    workers.invert_yaxis()
    workers.set_yticks([])
    workers.spines["left"].set_visible(False)
    workers.set_ylabel("one bar for each worker")
    legend = [Patch(color=colour, label=f"group {name}") for name, colour in COLOURS.items()]
    legend.append(Patch(color="grey", alpha=0.35, label="lighter: draining"))
    workers.legend(handles=legend, loc="lower left", frameon=False)

    def steps(axes: Axes, key: str, unit: float = 1, **look: object) -> None:
        values = [sample[key] / unit for sample in samples]
        axes.step(*changes(times, values), where="post", color="black", linewidth=1.2, **look)

    held = [{w["name"]: round(w["bytes"] / 1e6, 1) for w in sample["workers"]} for sample in samples]
    when, bands = changes(times, [tuple(now.get(name, 0) for name in names) for now in held])
    look = {"colors": [COLOURS[group(n)] for n in names], "edgecolor": "white", "linewidth": 0.5}
    data.stackplot(when, *zip(*bands, strict=True), step="post", alpha=0.75, **look)
    steps(data, "unique", 1e6, label="each key counted once")
    data.set_ylabel("MB held,\nby worker")
    data.legend(loc="upper left", frameon=False)
    steps(moved, "moved", 1e6)
    moved.set_ylabel("MB moved\nso far")
    steps(tasks, "finished")
    tasks.set_ylabel("tasks\nfinished")
    steps(running, "processing")
    running.set_ylabel("tasks\nprocessing")
    running.set_xlabel("seconds")
    running.set_xlim(0, times[-1])

    for axes in (data, moved, tasks, running):
        axes.set_ylim(0)
    for mark in marks:
        for axes in figure.axes:
            axes.axvline(mark["time"], color="grey", linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
        workers.annotate(mark["text"], (mark["time"], 1), (0, 3), rotation=20, va="bottom", **ON_TOP)
    figure.savefig(picture, dpi=110, metadata={"Date": None} if picture.suffix == ".svg" else None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else Path(__file__).with_suffix(".svg"))
