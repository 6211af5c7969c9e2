"""The page of `kubectl dask` is what the program says, and its help fits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dask_constructs import rbac
from dask_gitops.kubectl.cli import kubectl_dask
from dask_gitops.kubectl.rights import RIGHTS
from dask_synth.kubectl_page import kubectl_page
from dask_synth.reference import GENERATED

ROOT = Path(__file__).parents[2]
COMMANDS = [(), *((name,) for name in kubectl_dask.commands)]


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs/kubectl-dask.md").read_text() == kubectl_page(GENERATED), "run `python -m dask_synth`"


def test_each_command_states_its_rights() -> None:
    assert sorted(RIGHTS) == sorted(kubectl_dask.commands)


def test_a_tenant_has_all_but_metrics() -> None:
    granted = {
        (group, resource, verb)
        for rule in rbac.rules(rbac.TENANT)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    wanted = {
        (rule["apiGroups"][0], rule["resources"][0], rule["verbs"][0])
        for rights in RIGHTS.values()
        for right in rights
        for rule in right.rules
    }
    assert {group for group, _, _ in wanted - granted} == {"metrics.k8s.io"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "none")
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_there_and_fits(command: tuple[str, ...], option: str) -> None:
    done = CliRunner().invoke(kubectl_dask, [*command, option])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0].startswith("Usage: ")
    assert max(map(len, lines)) <= 100
    assert command or not any(line.endswith("...") for line in lines[1:]), "a summary is cut off"


def test_neither_help_nor_the_page_needs_what_clients_install() -> None:
    """`dask-synth` writes the page, and its extra has no client of Kubernetes."""
    script = (
        "import sys\nfor name in ('kr8s', 'rich', 'httpx', 'distributed'): sys.modules[name] = None\n"
        "import dask_synth.kubectl_page as page; page.kubectl_page('')\n"
        "import dask_gitops.kubectl.cli as cli\n"
        "try: cli.main(['status'])\nexcept SystemExit as end: assert end.code == 1"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["Error: kubectl-dask needs rich: pip install 'dask-gitops[client]'"]
