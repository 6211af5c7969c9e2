"""How `kubectl dask` behaves without a Kubernetes: exit status, and words instead of tracebacks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner, Result

from dask_gitops.access import Access
from dask_gitops.errors import NoSuchObject, Unreachable
from dask_gitops.kubectl import cli, commands, connections, logs
from dask_gitops.kubectl.cli import kubectl_dask
from dask_gitops.kubectl.reading import UnknownKind, chosen, parted
from dask_gitops.kubectl.seen import Seen

CALLS = [
    *(["status"], ["why", "x"], ["logs", "x"], ["top"], ["dashboard", "x"], ["connect", "x"], ["scale", "x", "3"]),
    *(["suspend", "x"], ["resume", "x"], ["restart", "x"], ["rerun", "x"]),
]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(kubectl_dask, list(arguments))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
def test_without_a_kubernetes_it_says_so(call: list[str], tmp_path: Path) -> None:
    done = run("--kubeconfig", str(tmp_path / "none"), *call)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert "Traceback" not in done.output


def test_each_command_is_tried() -> None:
    assert {call[0] for call in CALLS} == set(kubectl_dask.commands)


@pytest.mark.parametrize(
    "call",
    [["why"], ["scale", "x", "-1"], ["scale", "x", "many"], ["status", "-o", "xml"], ["nothing"], ["logs", "x", "-A"]],
    ids=" ".join,
)
def test_a_wrong_command_line_is_2(call: list[str]) -> None:
    assert run(*call).exit_code == 2


def test_options_may_stand_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    async def status(where: Any, name: str, **_: Any) -> None:
        seen.append((where.namespace, where.context, where.everywhere, name))

    monkeypatch.setattr(commands, "status", status)
    assert run("-n", "a", "status", "--context", "c", "x").exit_code == 0
    assert run("status", "-n", "a", "-A").exit_code == 0
    assert run("-n", "a", "status", "-n", "b").exit_code == 0
    assert seen == [("a", "c", False, "x"), ("a", None, True, ""), ("b", None, False, "")]


def test_whatever_goes_wrong_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def status(*_: Any, **__: Any) -> None:
        raise ExceptionGroup("several", [KeyError("metadata")])

    monkeypatch.setattr(commands, "status", status)
    done = run("status")
    assert (done.exit_code, done.output) == (1, "Error: KeyError: 'metadata'\n")


def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\nfrom dask_gitops.kubectl import cli, commands\n"
        "async def status(*_, **__):\n    print('on', flush=True)\n    await asyncio.Event().wait()\n"
        "commands.status = status\ncli.main(['status'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told.strip()) == (130, "")


def test_a_kind_may_stand_before_a_name() -> None:
    assert parted("etl", "DaskJob", "DaskCluster") == (("DaskJob", "DaskCluster"), "etl")
    for word in ("job", "daskjob", "daskjobs", "djb", "daskjobs.kubernetes.dask.org"):
        assert parted(f"{word}/etl", "DaskJob", "DaskCluster") == (("DaskJob",), "etl")
    with pytest.raises(UnknownKind, match="they are daskjob"):
        parted("pod/etl", "DaskJob")


def test_a_job_comes_before_the_cluster_of_its_name() -> None:
    def of(kind: str, name: str) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": name}}

    everything = Seen(clusters=(of("DaskCluster", "etl"), of("DaskCluster", "analytics")), jobs=(of("DaskJob", "etl"),))
    kinds = ("DaskJob", "DaskCluster")
    assert chosen(everything, "etl", "team", *kinds)["kind"] == "DaskJob"
    assert chosen(everything, "cluster/etl", "team", *kinds)["kind"] == "DaskCluster"
    with pytest.raises(NoSuchObject, match="did you mean analytics"):
        chosen(everything, "analytcs", "team", *kinds)


class Api:
    """An API server that has a log, whose connection may break."""

    def __init__(self, *lines: str | Exception) -> None:
        self.lines = lines

    @asynccontextmanager
    async def call_api(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        yield self

    async def aiter_lines(self) -> AsyncIterator[str]:
        for line in self.lines:
            if isinstance(line, Exception):
                raise line
            yield line


@pytest.mark.parametrize("asked", [{}, {"follow": "true"}])
def test_a_pipe_that_is_closed_is_no_fault_of_kubernetes(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
) -> None:
    """``kubectl dask logs x | head`` said that Kubernetes does not answer."""

    def closed(*_: Any, **__: Any) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    async def show_logs() -> None:
        pods = [{"metadata": {"name": name}} for name in "ab"]
        await logs.show(Access(Api("one", "two"), "lab"), pods, asked)

    monkeypatch.setattr(click, "echo", closed)
    monkeypatch.setattr(commands, "show_logs", show_logs)
    with pytest.raises(BrokenPipeError):
        cli._do("show_logs")


async def test_a_log_that_breaks_off_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    pods = [{"metadata": {"name": "a"}}]
    with pytest.raises(Unreachable, match="Kubernetes does not answer: gone"):
        await logs.show(Access(Api("one", httpx.ReadError("gone")), "lab"), pods, {})
    assert capsys.readouterr().out == "one\n"


@pytest.mark.parametrize("name", ["", "cluster/"])
def test_an_empty_name_is_nobodys(name: str) -> None:
    """A variable that is not set: it was asked for all of a kind, and changed none in words of Kubernetes."""
    with pytest.raises(UnknownKind, match="the name is missing"):
        parted(name, "DaskJob", "DaskCluster")


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -9 $$", 137)])
async def test_a_command_that_is_connected_ends_with_its_own_status(script: str, status: int) -> None:
    """Out of memory, say, was 247, which no shell and no pipeline knows."""
    assert await connections._run(["sh", "-c", script], {}) == status
