"""How the commands behave: help, colours, Ctrl-C, and what is missing."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tests.support.states import cluster

from dask_crds.model import dump
from dask_synth.cli import dask_synth
from dask_synth.reference import commands

ROOT = Path(__file__).parents[2]
COMMANDS = [(), *((name,) for name in dask_synth.commands)]


def test_the_page_of_commands_is_what_help_says() -> None:
    assert (ROOT / "docs/commands.md").read_text() == commands(), "run `python -m dask_synth`"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "none")
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_there_and_fits(command: tuple[str, ...], option: str) -> None:
    done = CliRunner().invoke(dask_synth, [*command, option])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0].startswith("Usage: ")
    assert max(map(len, lines)) <= 100
    assert command or not any(line.endswith("...") for line in lines[1:]), "a summary is cut off"


def test_help_does_not_wait_for_node() -> None:
    script = (
        "import sys; from dask_synth.cli import main\ntry: main(['--help'])\nfinally: assert 'cdk8s' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_python_m_and_the_console_script_say_the_same() -> None:
    done = subprocess.run([sys.executable, "-m", "dask_synth", "-h"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("Usage: dask-synth ")


@pytest.mark.parametrize("group", [True, False], ids=["terminal", "process"])
def test_ctrl_c_leaves_the_old_output(tmp_path: Path, group: bool) -> None:
    """A terminal sends it to Node.js as well."""
    (tmp_path / "dist").mkdir()
    command = [sys.executable, "-m", "dask_synth", "--output", str(tmp_path / "dist"), "--reference", "none/a"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(tmp_path.glob(".dist.*/new/*")):
        assert process.poll() is None
        time.sleep(0.01)
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.strip() == "interrupted"
    assert os.listdir(tmp_path) == ["dist"]
    assert os.listdir(tmp_path / "dist") == []


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_colours_are_for_terminals(tmp_path: Path, variables: dict[str, str], coloured: bool) -> None:
    (tmp_path / "old.yaml").touch()
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(dump(cluster())))
    ours, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | variables
    command = [sys.executable, "-m", "dask_synth", "diff", "old.yaml", "new.yaml"]
    subprocess.run(command, cwd=tmp_path, env=environment, stdout=theirs, check=True)
    os.close(theirs)
    text = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "+ DaskCluster" in text
    assert ("\x1b[" in text) == coloured


@pytest.mark.parametrize("module", ["aiohttp", "kopf", "prometheus_client"])
def test_the_controller_says_which_extra_it_needs(module: str) -> None:
    """Other extras install the command as well: it ended in ModuleNotFoundError (constructs, docs gap 12)."""
    script = f"import sys; sys.modules[{module!r}] = None; import dask_controller.__main__"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"dask-controller needs {module}: pip install 'dask-gitops[controller]'\n"
