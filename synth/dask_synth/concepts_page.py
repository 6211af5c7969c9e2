"""``docs/concepts.md``: what comes out of what one writes, by `render`, which builds as the operator builds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from dask_crds.descriptions import schema_components

from .render import render

_HEAD = "apiVersion: kubernetes.dask.org/v1\nkind: {}\nmetadata: {{name: {}}}\nspec:\n"
_CLUSTER = """\
  scheduler:
    spec:
      containers:
        - {name: scheduler, image: "ghcr.io/dask/dask:2026.8.0", args: [dask, scheduler]}
  worker:
    replicas: 2
    spec:
      containers:
        - {name: worker, image: "ghcr.io/dask/dask:2026.8.0", args: [dask, worker, --name, $(DASK_WORKER_NAME)]}
"""
_GROUP = """\
  cluster: analytics
  worker:
    replicas: 1
    spec:
      containers:
        - name: worker
          image: ghcr.io/dask/dask:2026.8.0
          args: [dask, worker, --name, $(DASK_WORKER_NAME), --resources, BIG=1]
          resources: {requests: {memory: 64Gi}}
"""
_JOB = """\
  job:
    spec:
      containers:
        - {name: job, image: "ghcr.io/dask/dask:2026.8.0", args: [python, report.py]}
  cluster:
    spec:
"""
_AUTOSCALER = "  cluster: analytics\n  minimum: 0\n  maximum: 20\n"


class Pair(NamedTuple):
    """Something to write, and which of what comes out is shown whole."""

    title: str
    kind: str
    name: str
    spec: str
    shown: str = ""
    note: str = ""

    @property
    def written(self) -> str:
        """The manifest."""
        return _HEAD.format(self.kind, self.name) + self.spec


PAIRS = (
    Pair(
        "A cluster",
        "DaskCluster",
        "analytics",
        _CLUSTER,
        "Pod",
        "A Secret besides, `analytics-security-...`, has the key by which operator, scheduler and workers know one "
        "another; the operator can make it and not read it.",
    ),
    Pair("A cluster that is suspended", "DaskCluster", "analytics", f"  suspend: true\n{_CLUSTER}"),
    Pair("More workers, of another kind", "DaskWorkerGroup", "big", _GROUP),
    Pair("Workers that follow the load", "DaskAutoscaler", "analytics", _AUTOSCALER),
    Pair("A job", "DaskJob", "report", _JOB + "".join(f"    {line}\n" for line in _CLUSTER.splitlines()), "Job"),
)
#: Longer texts are programs.
_LONGEST = 100
#: Of what is shown, what follows from all the rest.
_HASHES = ("dask.org/revision", "dask.org/run-id")


def concepts(generated: str) -> str:
    """The page as Markdown.

    Args:
        generated: how a generated page begins to say so.
    """
    lines = [
        "# What you write, and what comes out",
        "",
        f"{generated}synth/dask_synth/concepts_page.py by `dask-synth`. Do not edit. -->",
        "",
        "What comes out is what `dask-synth render` prints of the manifest above it: the operator makes its objects "
        "with the same functions. Everything belongs to the resource that it was made of, and goes with it.",
        "",
    ]
    for pair in PAIRS:
        lines += _section(pair)
    return "\n".join(lines)


def _section(pair: Pair) -> Iterator[str]:
    yield from (f"## {pair.title}", "", schema_components()[pair.kind]["description"], "")
    yield from ("```yaml", pair.written.rstrip(), "```", "")
    children = list(render(yaml.safe_load(pair.written), namespace="default", domain="cluster.local"))
    if not children:
        yield from ("Nothing comes out: it publishes how many workers the load wants, and the group reads that.", "")
        return
    yield from ("| comes out | | |", "| --- | --- | --- |")
    for child in children:
        yield f"| {child['kind']} | `{child['metadata']['name']}` | {_what(child)} |"
    yield ""
    if pair.note:
        yield from (pair.note, "")
    whole = next((child for child in children if child["kind"] == pair.shown), None)
    if whole is not None:
        name = f"{whole['kind']} `{whole['metadata']['name']}`"
        yield from ("<details markdown>", f"<summary>{name.replace('`', '')}, whole</summary>", "", "```yaml")
        yield yaml.safe_dump(_short(whole), sort_keys=False, width=116).rstrip()
        yield from ("```", "", "</details>", "")


def _what(child: dict[str, Any]) -> str:
    """What is most to be known of a child."""
    spec = child.get("spec", {})
    match child["kind"]:
        case "ConfigMap":
            return "what the scheduler loads, to answer the operator's questions"
        case "Service":
            return "ports " + ", ".join(f"{port['port']} (`{port['name']}`)" for port in spec["ports"])
        case "PodDisruptionBudget":
            return f"`maxUnavailable: {spec['maxUnavailable']}`: no eviction takes the scheduler, and all work, away"
        case "Deployment":
            return f"{spec['replicas']} Pod{'s' * (spec['replicas'] != 1)}, `strategy: {spec['strategy']['type']}`"
        case "DaskWorkerGroup":
            return f"{spec['worker']['replicas']} workers are wanted"
        case "DaskCluster":
            return "the job's own, which ends with it"
        case "Job":
            return f"the runner, `backoffLimit: {spec['backoffLimit']}`"
        case _:
            return f"`{' '.join(spec['containers'][0]['args'])}`"


def _short(node: Any) -> Any:
    """The same without the programs in it, and without hashes of them."""
    if isinstance(node, dict):
        return {key: "..." if key in _HASHES else _short(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_short(item) for item in node]
    return "..." if isinstance(node, str) and len(node) > _LONGEST else node
