"""Draw `docs/plots/scaling.svg` from a recording of the end-to-end test of lossless scaling.

`RECORDING=run.json pytest tests/e2e/test_lossless.py -k no_key`, then `python docs/plots/scaling.py run.json`.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

COLOURS = {"red": "#c0392b", "blue": "#2471a3"}


def main(recording: Path) -> None:
    """Write the plot beside this file."""
    run = json.loads(recording.read_text())
    samples, marks = run["samples"], run["marks"]
    times = [sample["time"] for sample in samples]
    plt.rcParams |= {"font.size": 9, "svg.fonttype": "none", "axes.spines.right": False, "axes.spines.top": False}
    figure, (workers, data, tasks) = plt.subplots(3, 1, figsize=(9, 7), sharex=True, layout="constrained")

    for group, colour in COLOURS.items():
        mine = [[w for w in sample["workers"] if f"-{group}-" in w["name"]] for sample in samples]
        working = [sum(w["status"] == "running" for w in some) for some in mine]
        workers.step(times, working, where="post", color=colour, label=f"group {group}: at work")
        present = [len(some) for some in mine]
        workers.step(times, present, where="post", color=colour, linestyle=":", label="with draining")
        held = [sum(w["bytes"] for w in some) / 1e6 for some in mine]
        data.plot(times, held, color=colour, label=f"held by group {group}")
    workers.set_ylabel("workers")
    workers.set_ylim(0, 5)
    workers.legend(loc="upper center", ncols=4, frameon=False, bbox_to_anchor=(0.5, 1.75))

    data.plot(times, [sample["moved"] / 1e6 for sample in samples], color="black", linestyle="--", label="moved so far")
    data.set_ylabel("MB")
    data.legend(loc="upper left", frameon=False)

    tasks.plot(times, [sample["finished"] for sample in samples], color="black", label="results and data so far")
    tasks.set_ylabel("keys")
    tasks.set_xlabel("seconds")
    tasks.legend(loc="upper left", frameon=False)

    for mark in marks:
        for axes in (workers, data, tasks):
            axes.axvline(mark["time"], color="grey", linewidth=0.6)
        workers.text(mark["time"] + 0.5, 5, mark["text"], rotation=30, fontsize=8, va="bottom")
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
