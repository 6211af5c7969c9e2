"""How the commands are called: ``kubectl dask``, ``kubectl-dask``, or ``python -m dask_gitops.kubectl``.

What talks to Kubernetes is imported where a command runs: ``--help`` and the page of the commands need none of it.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NoReturn

import click

from .where import Where

#: Exit status: 0 if what was asked for was done, 1 if not, 2 for a wrong command line.
_FAILED, _INTERRUPTED = 1, 130
_MISSING = "kubectl-dask needs {}: pip install 'dask-gitops[client]'"

Function = Callable[..., Any]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of an arrow, where the encoding has none
    try:
        status = kubectl_dask.main(arguments, prog_name="kubectl dask", standalone_mode=False)
        click.echo(nl=False)  # flushes
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # as `head` closes it
        _abandon_output()
        sys.exit(_FAILED)
    sys.exit(status or 0)


def _abandon_output() -> None:
    """Let nothing fail at the flush at exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _first(error: BaseException) -> BaseException:
    """Several errors at once are those of tasks side by side: the first of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _told(error: BaseException) -> str:
    """What to say of an error."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _MISSING.format(error.name.partition(".")[0])
    module = type(error).__module__
    ours = module.startswith("dask_gitops")
    return str(error) if ours else f"{type(error).__name__}: {error}"


def _do(command: str, *arguments: Any, module: str = "commands", **options: Any) -> None:
    """Run a command of `commands`; whatever goes wrong is told in words, and no traceback ever shown."""
    try:
        found = importlib.import_module(f".{module}", __package__)
        importlib.import_module(".commands", __package__).run(getattr(found, command), *arguments, **options)
    except (click.ClickException, click.Abort, BrokenPipeError):
        raise
    except Exception as error:
        first = _first(error)
        raise first if isinstance(first, BrokenPipeError) else click.ClickException(_told(first)) from None


# --- options ----------------------------------------------------------------------------------------------------------


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value not in (None, False):
        setattr(context.ensure_object(Where), parameter.name or "", value)


def _place(*, everywhere: bool = False) -> Callable[[Function], Function]:
    """Options that say where."""
    options = [
        click.option("-n", "--namespace", metavar="NAME", help="Namespace (default: that of the context)."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig (default: its current one)."),
        click.option("--kubeconfig", metavar="FILE", help="Default: $KUBECONFIG, then ~/.kube/config."),
    ]
    if everywhere:
        options.insert(
            1, click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Look in all namespaces.")
        )

    def decorated(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        for parameter in function.__click_params__:  # type: ignore[attr-defined]
            if parameter.name in ("namespace", "context", "kubeconfig", "everywhere"):
                parameter.callback, parameter.expose_value = _keep, False
        return function

    return decorated


_output = click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the output."
)


def _command(**place: bool) -> Callable[[Function], click.Command]:
    """A command of the group with the options of where."""

    def decorated(function: Function) -> click.Command:
        return kubectl_dask.command(context_settings={"max_content_width": 100})(
            click.pass_obj(_place(**place)(function))
        )

    return decorated


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 if what was asked for was done, 1 if not, 2 for a wrong command line.",
)
@_place()
@click.version_option(version("dask-gitops"), message="%(version)s")
@click.pass_context
def kubectl_dask(context: click.Context) -> None:
    """See Dask clusters and jobs, learn why one does not work, and reach them.

    A NAME is that of a cluster or job; KIND/NAME tells them from groups and autoscalers: cluster/etl, job/etl,
    group/etl-gpu, autoscaler/etl. Where a job and a cluster share a name, the cluster is the job's.
    """
    context.ensure_object(Where)


# --- commands that read -----------------------------------------------------------------------------------------------


@_command(everywhere=True)
@click.argument("name", default="")
@_output
def status(where: Where, name: str, form: str) -> None:
    """Show clusters and jobs as trees.

    With groups, Pods, drains and progress; of many workers, those that are not ready.
    """
    _do("status", where, name, machine=form == "json")


@_command()
@click.argument("name")
@_output
def why(where: Where, name: str, form: str) -> None:
    """Say why something does not work, and what to do.

    It looks at conditions, Pods, events, quotas and queues. In JSON, "state" is `fine`, `wait` (it comes right by
    itself) or `act`.
    """
    _do("explain", where, name, machine=form == "json")


@_command()
@click.argument("name")
@click.option(
    "-c",
    "--part",
    type=click.Choice(["scheduler", "workers", "runner", "all"]),
    help="Whose (default: the runner of a job, the scheduler of a cluster, the workers of a group).",
)
@click.option("-f", "--follow", is_flag=True, help="Go on as they grow.")
@click.option("--tail", type=click.IntRange(min=0), help="This many of the last lines.")
@click.option("--since", type=click.IntRange(min=1), metavar="SECONDS", help="No older than this.")
@click.option("-p", "--previous", is_flag=True, help="Of the container before its last restart.")
@click.option("--timestamps", is_flag=True, help="With the time of each line.")
def logs(
    where: Where,
    name: str,
    part: str | None,
    follow: bool,
    tail: int | None,
    since: int | None,
    previous: bool,
    timestamps: bool,
) -> None:
    """Show logs of a scheduler, workers or a runner."""
    given = {
        "follow": "true" if follow else "",
        "tailLines": "" if tail is None else str(tail),
        "sinceSeconds": "" if since is None else str(since),
        "previous": "true" if previous else "",
        "timestamps": "true" if timestamps else "",
    }
    asked = {key: value for key, value in given.items() if value}
    _do("show_logs", where, name, part=part or "", asked=asked)


@_command(everywhere=True)
@_output
@click.option("--once", is_flag=True, help="Once, also on a terminal.")
def top(where: Where, form: str, once: bool) -> None:
    """Show what clusters use, live on a terminal.

    Workers, progress, CPU and memory of each cluster, the greatest consumer first.
    """
    _do("top", where, machine=form == "json", once=once)


# --- commands that connect --------------------------------------------------------------------------------------------


@_command()
@click.argument("name")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of this machine (default: a free one).")
@click.option("--browser/--no-browser", default=True, help="Whether to open it (default: yes, from a terminal).")
def dashboard(where: Where, name: str, port: int, browser: bool) -> None:
    """Open a cluster's dashboard, until Ctrl-C.

    It forwards a port and prints the address.
    """
    _do("dashboard", where, name, port=port, browser=browser, module="connections")


@_command()
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of this machine (default: a free one).")
@click.option("--tls", metavar="DIR", help="Speak TLS end to end, with certificates that are written into this folder.")
def connect(where: Where, name: str, command: tuple[str, ...], port: int, tls: str | None) -> None:
    """Let clients on this machine in, until Ctrl-C.

    It forwards a port to the scheduler and prints the environment by which `distributed.Client()` finds it. With a
    COMMAND after `--` it runs that in this environment, and ends with it and with its status: a script, or a shell,
    as in `kubectl dask connect analytics -- bash`.
    """
    _do("connect", where, name, command, port=port, folder=tls, module="connections")


# --- commands that change something -----------------------------------------------------------------------------------


@_command()
@click.argument("name")
@click.argument("replicas", type=click.IntRange(0, 200_000))
@_output
def scale(where: Where, name: str, replicas: int, form: str) -> None:
    """Set the number of workers.

    Of a cluster's default group, or of group/NAME.
    """
    _do("scale", where, name, replicas, machine=form == "json")


@_command()
@click.argument("name")
@_output
def suspend(where: Where, name: str, form: str) -> None:
    """Stop all Pods and keep the resource."""
    _do("suspend", where, name, suspended=True, machine=form == "json")


@_command()
@click.argument("name")
@_output
def resume(where: Where, name: str, form: str) -> None:
    """Let what was suspended go on."""
    _do("suspend", where, name, suspended=False, machine=form == "json")


@_command()
@click.argument("name")
@click.option("--group", default="", metavar="NAME", help="The workers of a group that the cluster states.")
@_output
def restart(where: Where, name: str, group: str, form: str) -> None:
    """Replace workers by new ones, each drained first."""
    _do("restart", where, name, group=group, machine=form == "json")


@_command()
@click.argument("name")
@click.option("--run-id", metavar="TEXT", help="Name of the run (default: a new one).")
@_output
def rerun(where: Where, name: str, run_id: str | None, form: str) -> None:
    """Run a job once more, with a new spec.runId."""
    _do("rerun", where, name, run_id, machine=form == "json")
