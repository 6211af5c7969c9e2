"""What a newcomer reads first, line by line, from a clone to a result.

Only ``kind`` is another program: it makes no cluster, because the node of the tests stands for its. Images are there
already, and if other tests ran before, so is the operator.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.cluster import Node
from tests.cluster.images import ROOT
from tests.e2e.support import Kubectl, eventually

pytestmark = pytest.mark.node

REPOSITORY = "https://github.com/dask-gitops/dask-gitops.git"
#: After each command the time, in a line of its own.
MARK = "=== "


class Step(NamedTuple):
    """A command of the page, and what the page says that it prints."""

    command: str
    printed: str


def steps(page: Path, section: str) -> list[Step]:
    """Those of the first block of a section."""
    block = re.search(rf"^## {section}$.*?^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert block, f"{page} has no section {section}"
    found = re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]
    return [Step(*each.partition("\n")[::2]) for each in found]


def environment(node: Node, namespace: str, folder: Path) -> dict[str, str]:
    """That of a newcomer: programs, a cluster, a namespace, and where the repository is cloned from."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "kind").write_text("#!/bin/sh\necho 'the cluster is there'\n")
    (programs / "kind").chmod(0o755)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(node.kubectl("config", "view", "--flatten", "--minify"))
    kubectl = getattr(node, "programs", {}).get("kubectl")
    path = [str(programs), *([str(kubectl.parent)] if kubectl else []), os.environ["PATH"]]
    told = {"PATH": ":".join(path), "KUBECONFIG": str(kubeconfig), "HOME": str(folder)}
    mirror = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf", "GIT_CONFIG_VALUE_0": REPOSITORY}
    safe = {"GIT_CONFIG_KEY_1": "safe.directory", "GIT_CONFIG_VALUE_1": "*"}
    given = {**os.environ, **told, **mirror, **safe}
    select = ["kubectl", "config", "set-context", "--current", "--namespace", namespace]
    subprocess.run(select, env=given, check=True, capture_output=True)
    return given


def test_the_first_page_leads_to_a_result(node: Node, namespace: str, tmp_path: Path) -> None:
    page = steps(ROOT / "docs/index.md", "A first result")
    script = "\n".join(f"{step.command}\necho; echo '{MARK}'$EPOCHREALTIME" for step in page)
    begin = f"set -e\nexport LC_ALL=C\necho '{MARK}'$EPOCHREALTIME\n"
    shell = subprocess.run(
        ["bash", "-c", begin + script],
        env=environment(node, namespace, tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert shell.returncode == 0, shell.stdout
    outputs = re.split(rf"^{MARK}([0-9.]+)\n", shell.stdout, flags=re.MULTILINE)
    times, said = [float(time) for time in outputs[1::2]], outputs[2::2]
    for step, began, ended, output in zip(page, times, times[1:], said, strict=False):
        print(f"{ended - began:6.1f} s  {step.command}")
        assert step.printed in output, output
    print(f"{times[-1] - times[0]:6.1f} s  together")
    assert any(step.printed for step in page), "the page ends with a result"

    kubectl = Kubectl(node.kubectl, namespace)
    eventually(lambda: kubectl("get", "daskcluster", "-o", "name").strip() == "")
    status = kubectl.status("daskjob", "hello")
    assert status["startTime"] <= status["endTime"]
    assert status["jobRunnerPodName"].startswith("hello-runner")
