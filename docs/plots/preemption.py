"""Draw `docs/plots/preemption.svg` from a recording of the end-to-end test of preemption.

`RECORDING=run.json pytest tests/e2e/test_queue.py -k drained`, then `python docs/plots/preemption.py run.json [FILE]`.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

COLOURS = {"base": "#2471a3", "surplus": "#c0562b", "urgent Job": "#6c757d"}
WORKLOAD, COMPONENT = "dask.org/queue-workload", "dask.org/component"
QUOTA_MILLICORES = 100
#: Shown before the quota of workers is taken back, and after they have come again.
AROUND_SECONDS = 10


class Bar(NamedTuple):
    """A Pod."""

    name: str
    share: str  #: whose quota it uses
    workload: str
    cpu: int  #: thousandths of one
    began: float
    ended: float


def is_true(workload: dict, type: str) -> bool:
    """Whether a condition is True."""
    return any(c["type"] == type and c["status"] == "True" for c in workload.get("status", {}).get("conditions", ()))


def bars(events: list[dict]) -> list[Bar]:
    """The Pods of a run, of the base first, and of each share as they came."""
    found: dict[str, Bar] = {}
    last = events[-1]["seconds"]
    for event in events:
        pod, now = event["manifest"], event["seconds"]
        uid, metadata = pod["metadata"]["uid"], pod["metadata"]
        if metadata["name"].startswith("mark-"):
            continue
        workload = metadata.get("annotations", {}).get(WORKLOAD, "")
        cpus = [c["resources"].get("requests", {}).get("cpu", "0m") for c in pod["spec"]["containers"]]
        cpu = sum(int(c[:-1]) if c.endswith("m") else 1000 * int(c) for c in cpus)
        ours = COMPONENT in metadata.get("labels", {})
        share = "urgent Job" if not ours else "surplus" if "surplus" in workload else "base"
        if uid not in found:
            found[uid] = Bar(metadata["name"], share, workload, cpu, now, last)
        if event["type"] == "DELETED" or pod["status"].get("phase") in ("Succeeded", "Failed"):
            found[uid] = found[uid]._replace(ended=min(found[uid].ended, now))
    return sorted(found.values(), key=lambda bar: (list(COLOURS).index(bar.share), bar.began))


def evictions(events: list[dict]) -> dict[str, list[float]]:
    """When each Workload was evicted."""
    found: dict[str, list[float]] = {}
    before: dict[str, bool] = {}
    for event in events:
        name, evicted = event["manifest"]["metadata"]["name"], is_true(event["manifest"], "Evicted")
        if evicted and not before.get(name) and event["type"] != "DELETED":
            found.setdefault(name, []).append(event["seconds"])
        before[name] = evicted and event["type"] != "DELETED"
    return found


def asked(pods: list[Bar], share: str, times: list[float]) -> list[int]:
    """What the Pods of a share ask for at each of these times."""
    return [sum(p.cpu for p in pods if p.share == share and p.began <= time < p.ended) for time in times]


def main(recording: Path, picture: Path) -> None:
    """Write the picture."""
    run = json.loads(recording.read_text())
    pods, evicted = bars(run["pods"]), evictions(run["workloads"])
    end = max(pod.ended for pod in pods)
    taken = min(time for times in evicted.values() for time in times)
    shown = taken - AROUND_SECONDS, max(pod.began for pod in pods) + AROUND_SECONDS

    plt.rcParams |= {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "preemption"}
    plt.rcParams |= {"axes.spines.right": False, "axes.spines.top": False}
    sizes = {"sharex": True, "layout": "constrained", "height_ratios": [3, 2]}
    figure, (rows, quota) = plt.subplots(2, 1, figsize=(9, 5.5), **sizes)
    for row, pod in enumerate(pods):
        told = next((t for t in evicted.get(pod.workload, ()) if pod.began <= t < pod.ended), pod.ended)
        look = {"height": 0.7, "color": COLOURS[pod.share], "linewidth": 0}
        rows.barh(row, told - pod.began, left=pod.began, **look)
        rows.barh(row, pod.ended - told, left=told, alpha=0.35, **look)
    rows.invert_yaxis()
    rows.set_yticks(range(len(pods)), [pod.name for pod in pods], fontsize=7)
    legend = [Patch(color=colour, label=share) for share, colour in COLOURS.items()]
    legend.append(Patch(color="grey", alpha=0.35, label="lighter: hands on what it holds"))
    rows.legend(handles=legend, loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=4, frameon=False)

    times = sorted({0.0, end, *(pod.began for pod in pods), *(pod.ended for pod in pods)})
    stacked = [asked(pods, share, times) for share in COLOURS]
    quota.stackplot(times, *stacked, colors=list(COLOURS.values()), step="post", alpha=0.75, linewidth=0)
    quota.axhline(QUOTA_MILLICORES, color="black", linewidth=1, linestyle=(0, (4, 3)))
    quota.annotate("quota", (shown[0], QUOTA_MILLICORES), (2, 3), textcoords="offset points", fontsize=8.5)
    quota.set_ylim(0, 1.15 * QUOTA_MILLICORES)
    quota.set_ylabel("thousandths of a CPU\nthat Pods ask for")
    ticks = range(-AROUND_SECONDS, int(shown[1] - taken), 10)
    quota.set_xticks([taken + tick for tick in ticks], [str(tick) for tick in ticks])
    quota.set_xlabel("seconds since two workers have lost their quota")
    quota.set_xlim(*shown)
    figure.savefig(picture, dpi=110, metadata={"Date": None} if picture.suffix == ".svg" else None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else Path(__file__).with_suffix(".svg"))
