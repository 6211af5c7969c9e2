"""A real Prometheus, beside a control plane."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster import ControlPlane, components
from tests.cluster.processes import free_port
from tests.support.clusters import or_skip


class Prometheus:
    """Answers queries.

    Args:
        address: where it listens.
    """

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/api/v1"

    def __call__(self, expr: str) -> list[dict[str, Any]]:
        """What a query finds now."""
        return self._asked("query", query=expr)

    def course(self, expr: str, begin: float, end: float) -> list[dict[str, Any]]:
        """What it found every two seconds between two Unix times."""
        return self._asked("query_range", query=expr, start=f"{begin}", end=f"{end}", step="2")

    def answers(self) -> bool:
        """Whether it is there, and ready."""
        with contextlib.suppress(OSError):
            return bool(self("vector(1)"))
        return False

    def _asked(self, what: str, **parameters: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self._url}/{what}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found


@contextlib.contextmanager
def prometheus(
    plane: ControlPlane, folder: Path, groups: Sequence[Mapping[str, Any]], scrapes: Sequence[Mapping[str, Any]]
) -> Iterator[Prometheus]:
    """One that scrapes, and computes these groups of rules, every second; stopped afterwards."""
    with or_skip("Prometheus"):
        program = components.unpacked("prometheus", "usr/bin/prometheus")
    address = f"{plane.host}:{free_port()}"
    (folder / "rules.yaml").write_text(json.dumps({"groups": groups}))
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration = {"global": every, "rule_files": ["rules.yaml"], "scrape_configs": scrapes}
    (folder / "prometheus.yaml").write_text(json.dumps(configuration))
    options = [f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    plane.processes.start("prometheus", program, *options, f"--web.listen-address={address}")
    asked = Prometheus(address)
    try:
        plane.wait(asked.answers, "Prometheus to answer")
        yield asked
    finally:
        plane.processes.stop("prometheus")


def operator_target(port: int, namespace: str) -> dict[str, Any]:
    """An operator as its ServiceMonitor names it: by its namespace and its Pod."""
    return {"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": namespace, "pod": "o-0"}}


def operators(*targets: Mapping[str, Any]) -> dict[str, Any]:
    """How operators are scraped: as the ServiceMonitor has it."""
    return {"job_name": "dask-operator", "honor_labels": True, "static_configs": targets}
