"""From an empty repository to a result: what the README of the template repository promises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.e2e.conftest import Operator
from tests.e2e.support import Kubectl, eventually
from tests.support import template

pytestmark = pytest.mark.node


@pytest.fixture
def team(node, namespace: str, operator: Operator, tmp_path: Path) -> Iterator[tuple[Kubectl, Path]]:
    """The team's namespace with its quota and its rules, under a name of the test's own; and the workloads for it."""
    name = f"team-{namespace}"
    environment = template.start(tmp_path / "platform", TEAM=name) / "dist/dev"
    found = yaml.safe_load_all((environment / "operator/operator.yaml").read_text())
    # The operator is there already; a policy for the whole cluster would meet other tests' clusters.
    mine = [m for m in found if name in (m["metadata"]["name"], m["metadata"].get("namespace"))]
    manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": mine})
    node.kubectl("apply", "--server-side", "-f", "-", input=manifests)
    workloads = environment / "workloads/workloads.yaml"
    # A core for each Pod is more than a test's node has.
    text = re.sub(r"(limits:\n) *cpu: .*\n", r"\1", workloads.read_text())
    workloads.write_text(re.sub("cpu: .*", "cpu: 50m", text))
    try:
        yield Kubectl(node.kubectl, name), workloads.parent
    finally:
        node.kubectl("delete", "namespace", name, "--wait=false")


def test_the_job_of_a_new_repository_prints_its_result(team: tuple[Kubectl, Path]) -> None:
    kubectl, workloads = team
    assert kubectl("get", "resourcequota", "-o", "name")
    kubectl("apply", "--server-side", "-k", str(workloads))
    eventually(lambda: kubectl.status("daskjob", "hello").get("jobStatus") == "Successful", seconds=180)
    assert "result: 285" in kubectl("logs", "job/hello-runner")
    kubectl.wait_ready("daskcluster", "analytics")
