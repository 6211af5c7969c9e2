"""How the commands are called: ``dask-synth``, or ``python -m dask_synth``, which is the same.

`commands` is imported where a command runs: it brings cdk8s, which starts Node.js, and ``--help`` needs neither.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import click

from .failure import Failure

#: Exit status: 0 if all is well, 1 if there are mistakes or differences, and of a wrong command line 2.
_INTERRUPTED = 130

Function = Callable[..., Any]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of an arrow, where the encoding has none
    try:
        status = dask_synth.main(arguments, prog_name="dask-synth", standalone_mode=False)
        click.echo(nl=False)  # flushes
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    except Failure as error:
        sys.exit(str(error))
    except BrokenPipeError:  # as `head` closes it
        _abandon_output()
        sys.exit(1)
    except OSError as error:
        _abandon_output()  # which may be what the error is about
        sys.exit(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    sys.exit(status or 0)


def _abandon_output() -> None:
    """Let nothing fail at the flush at exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- options ----------------------------------------------------------------------------------------------------------


def _remember(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        context.ensure_object(dict)["config"] = path


def _config(*, hidden: bool = False) -> Callable[[Function], Function]:
    """Configuration; it may stand before the command as well."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        hidden=hidden,
        expose_value=False,
        callback=_remember,
        help="Configuration (default: synth/config.yaml, if there is one).",
    )


def _written(*, hidden: bool = False) -> Callable[[Function], Function]:
    """What is written where."""

    def decorated(function: Function) -> Function:
        function = click.option(
            "--reference",
            type=click.Path(path_type=Path),
            metavar="FILE",
            default=Path("docs/reference.md"),
            show_default=True,
            hidden=hidden,
            help="Where the API reference goes, if that folder exists; reasons and commands go beside it.",
        )(function)
        function = click.option(
            "--output",
            type=click.Path(path_type=Path),
            metavar="DIR",
            envvar="CDK8S_OUTDIR",
            default=Path("dist"),
            show_default=True,
            hidden=hidden,
            help="Where the manifests go. Also CDK8S_OUTDIR, as `cdk8s synth` sets it.",
        )(function)
        return _config(hidden=hidden)(function)

    return decorated


def _check_flag(*, hidden: bool = False) -> Callable[[Function], Function]:
    return click.option("--check", "checks", is_flag=True, hidden=hidden, help="The same as the command check.")


# --- commands ---------------------------------------------------------------------------------------------------------


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 if all is well, 1 for mistakes or differences, 2 for a wrong command line.",
)
@_written(hidden=True)
@_check_flag(hidden=True)
@click.version_option(version("dask-gitops"))
@click.pass_context
def dask_synth(context: click.Context, output: Path, reference: Path, checks: bool) -> int | None:
    """Dask on Kubernetes from Git: write manifests, check them, tell what they do.

    Without a COMMAND it is `write`, and takes its options.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
    if context.invoked_subcommand is None:
        return _synthesize(context, output, reference, checks=checks)
    for option in ("output", "reference", "checks"):
        if context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE:
            flag = "--check" if option == "checks" else f"--{option}"
            raise click.UsageError(f"{flag} goes behind the command: dask-synth {context.invoked_subcommand} ...")
    return None


def _synthesize(context: click.Context, output: Path, reference: Path, *, checks: bool) -> int | None:
    from . import commands

    config = commands.configuration(context.ensure_object(dict).get("config"))
    if checks:
        return commands.check(output, reference, config)
    commands.synthesize(output, reference, config)
    return None


@dask_synth.command()
@_written()
@_check_flag()
@click.pass_context
def write(context: click.Context, output: Path, reference: Path, checks: bool) -> int | None:
    """Write the manifests and the API reference.

    The old folder is replaced when all of the new one is there, and only if it holds nothing but generated files.
    """
    return _synthesize(context, output, reference, checks=checks)


@dask_synth.command()
@_written()
@click.pass_context
def check(context: click.Context, output: Path, reference: Path) -> int | None:
    """List what is not up to date, and write nothing."""
    return _synthesize(context, output, reference, checks=True)


@dask_synth.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--namespace", default="default", show_default=True, help="For manifests that name none.")
@_config()
@click.pass_context
def render(context: click.Context, paths: tuple[str, ...], namespace: str) -> None:
    """Print what the operator would make of manifests.

    PATH is a file, a folder, of which all .yaml, .yml and .json files are read, or - for standard input. Objects of
    other kinds are passed over. If something is wrong with a resource, all that is wrong is said, and nothing printed.
    """
    from . import commands

    commands.print_children(
        paths, commands.configuration(context.ensure_object(dict).get("config")), namespace=namespace
    )


@dask_synth.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--image", metavar="REF", help="The operator's image, best name:tag@sha256:...")
@click.option("--revision", metavar="COMMIT", help="Noted in the artifact (default: the commit of the clone).")
@_config()
@click.pass_context
def release(context: click.Context, directory: Path, image: str | None, revision: str | None) -> None:
    """Write a release: archive, OCI artifact, SBOM, checksums.

    All of it, or nothing. DIR must be new or empty.
    """
    from . import commands

    config = commands.configuration(context.ensure_object(dict).get("config"))
    commands.publish(directory, config, image=image, revision=revision)


@dask_synth.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@_config()
@click.pass_context
def helm(context: click.Context, directory: Path) -> None:
    """Write a Helm chart of the operator.

    Its values are those that the construct DaskOperator takes; with the defaults it installs what the folders crds and
    operator of `write` hold. DIR must be new or empty.
    """
    from . import commands

    commands.write_chart(directory, commands.configuration(context.ensure_object(dict).get("config")))


@dask_synth.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Write a repository of your own to start from.

    Environments, a tenant, clusters, a job and CI; its README says how to go on. DIR may be there, as a clone say, and
    keeps what it holds. If it has another file of a name that is needed, nothing is written.
    """
    from . import commands

    commands.initialise(directory)


@dask_synth.command()
@click.argument("before", default="HEAD")
@click.argument("after", required=False)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    envvar="CDK8S_OUTDIR",
    default=Path("dist"),
    show_default=True,
    help="Which folder of a revision or of the working tree.",
)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="markdown for a comment on a pull request; json has CPUs, and bytes of memory.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if something changes.")
def diff(before: str, after: str | None, folder: Path, form: str, exit_code: bool) -> int:
    """Tell what a commit would do to clusters and jobs.

    Which Dask resources are new, gone or changed; which schedulers and workers are replaced, and whether work is lost;
    how many workers there are and what all Pods request, before and after; which jobs run. Decided as the operator
    decides it, without a cluster.

    BEFORE and AFTER are revisions, files or folders. Without AFTER it is the working tree.
    """
    from . import commands

    changed = commands.print_differences(before, after, folder, form=form)
    return 1 if changed and exit_code else 0
