"""The page of ``kubectl dask``, ``docs/kubectl-dask.md``: what ``--help`` says, the rights, the causes."""

from __future__ import annotations

from collections.abc import Iterator

import click

from dask_gitops.kubectl.case_objects import NOW, Case
from dask_gitops.kubectl.cases import CASES
from dask_gitops.kubectl.cause import advice
from dask_gitops.kubectl.cli import kubectl_dask
from dask_gitops.kubectl.rights import RIGHTS, Right, group_of, resource
from dask_gitops.kubectl.why import why

_WIDTH = 100


def kubectl_page(generated: str) -> str:
    """The page as Markdown.

    Args:
        generated: how a generated page begins to say so.
    """
    context = click.Context(
        kubectl_dask, info_name="kubectl dask", terminal_width=_WIDTH, help_option_names=["-h", "--help"]
    )
    lines = [
        "# kubectl dask",
        "",
        f"{generated}client/dask_gitops/kubectl/ by `dask-synth`. Do not edit. -->",
        "",
        "`pip install 'dask-gitops[client]'` brings `kubectl-dask`, which kubectl finds by its name, in whatever "
        "environment it is on the `PATH`; `uv tool install` and `pipx install` do as well. It works with your "
        "kubeconfig, as kubectl does, and with your rights alone: each command says which, in the namespace or with "
        "`-A` in all. The groups of a `DaskTenant` have them all, but for metrics.",
        "",
        *_help(context),
    ]
    for name in kubectl_dask.list_commands(context):
        lines += [f"## {name}", ""]
        lines += _help(click.Context(kubectl_dask.commands[name], context, info_name=name, terminal_width=_WIDTH))
        lines += _rights(RIGHTS[name])
    lines += [
        "## What `why` finds",
        "",
        "Each row is a test; `tests/integration/test_kubectl_why.py` makes many of them on a real API server as well, "
        "`tests/e2e/test_kubectl_dask.py` some on a real node. What else the operator writes as `reason` is in "
        "[reasons](reasons.md), and `why` says the same of it.",
        "",
        "| what is wrong | cause | words, for example | what to do |",
        "| --- | --- | --- | --- |",
        *map(_row, CASES),
        "",
    ]
    return "\n".join(lines)


def _row(case: Case) -> str:
    words = why(case.subject, case.seen, NOW).words.replace("|", "\\|")
    return f"| {case.title} | `{case.reason}` | {words} | {advice(case.reason)} |"


def _help(context: click.Context) -> tuple[str, ...]:
    return "```text", context.get_help(), "```", ""


def _rights(rights: tuple[Right, ...]) -> Iterator[str]:
    yield from ("It needs these rights in the namespace:", "", "| what | verbs | why |", "| --- | --- | --- |")
    for right in rights:
        optional = "; it does the rest without" if right.optional else ""
        yield f"| {_what(right)} | {right.verbs.replace(' ', ', ')} | {right.reason}{optional} |"
    yield ""


def _what(right: Right) -> str:
    kinds = right.kinds.split()
    group = group_of(kinds[0])
    return ", ".join(f"`{resource(kind)}`" for kind in kinds) + (f" of `{group}`" if group else "")
