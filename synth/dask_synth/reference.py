"""The API reference, ``docs/reference.md``, from the typed model; beside it the pages of reasons and of commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from dask_crds import names
from dask_crds.descriptions import schema_components
from dask_crds.kinds import DASK_KINDS, DaskKind
from dask_crds.kubernetes import KUBERNETES_VERSION
from dask_crds.reasons import Reason

from .cli import dask_synth

#: In what is generated here, near the beginning.
GENERATED = "<!-- Generated from "

Schema = Mapping[str, Any]

_KUBERNETES = "https://kubernetes.io/docs/reference/kubernetes-api"
_VENDORED = {
    "PodSpec": f"[PodSpec]({_KUBERNETES}/workload-resources/pod-v1/#PodSpec)",
    "ServiceSpec": f"[ServiceSpec]({_KUBERNETES}/service-resources/service-v1/#ServiceSpec)",
}
#: How the meaning of a reason ends that is none to worry about.
_WELL = "; nothing to do."
_METADATA = f"[ObjectMeta]({_KUBERNETES}/common-definitions/object-meta/#ObjectMeta)"


def reference() -> str:
    """The page as Markdown."""
    components = schema_components()
    written: set[str] = set()
    lines = [
        "# API reference",
        "",
        f"{GENERATED}crds/dask_crds/model/ by `dask-synth`. Do not edit. -->",
        "",
        f"Group `{names.GROUP}`, version `{names.VERSION}`. PodSpec and ServiceSpec are those of Kubernetes "
        f"{KUBERNETES_VERSION}. Fields in **bold** are required.",
        "",
    ]
    for row in DASK_KINDS.values():
        lines += _kind(row, components, written)
    return "\n".join(lines)


def reasons() -> str:
    """The page of all reasons as Markdown: those that ask for something each with a heading to link to."""
    well = [reason for reason in sorted(Reason) if reason.meaning.endswith(_WELL)]
    lines = [
        "# Troubleshooting, by reason",
        "",
        f"{GENERATED}crds/dask_crds/reasons.py by `dask-synth`. Do not edit. -->",
        "",
        "What the operator writes as `reason` into conditions and Events, what it means, and what to do about it. The "
        "message beside it says which object is meant:",
        "",
        "```console",
        "$ kubectl get dask                          # the reason of each resource that is not ready",
        "$ kubectl describe daskcluster NAME         # conditions with their messages, and Events",
        "$ kubectl logs --namespace dask-operator deployment/dask-operator",
        "```",
        "",
        *(line for reason in sorted(set(Reason) - set(well)) for line in (f"## {reason}", "", reason.meaning, "")),
        "## When all is well",
        "",
        "| reason | |",
        "| --- | --- |",
        *(f"| `{reason}` | {reason.meaning.removesuffix(_WELL)}. |" for reason in well),
        "",
        "## Reasons that come from Kubernetes",
        "",
        "Where a Pod is ill, or the API server refuses something, its reason and message are passed on as they are: of "
        "scheduling (`Unschedulable`), images (`ImagePullBackOff`, `ErrImagePull`), configuration "
        "(`CreateContainerConfigError`), crashes (`CrashLoopBackOff`, `Error`), memory (`OOMKilled`: raise the limit), "
        "nodes (`Evicted`), a runner's Job (`BackoffLimitExceeded`, `PodFailurePolicy`, `DeadlineExceeded`), and of "
        "Events that explain why a Pod waits on its node (`FailedMount`, `FailedCreatePodSandBox`). `kubectl describe` "
        "of the object in the message shows more.",
        "",
    ]
    return "\n".join(lines)


def commands() -> str:
    """The page of the commands as Markdown: what ``--help`` says."""
    group = click.Context(dask_synth, info_name="dask-synth", terminal_width=100, help_option_names=["-h", "--help"])
    lines = [
        "# Commands",
        "",
        f"{GENERATED}synth/dask_synth/cli.py by `dask-synth`. Do not edit. -->",
        "",
        "`python -m dask_synth` is the same. Whatever stops a command, a mistake, a full disk, Ctrl-C or `kill -9`, "
        "what it would replace stays whole; and it replaces and deletes nothing but generated files.",
        "",
        "Colours are for terminals, and not used where `NO_COLOR` is set. Completion, for bash, zsh or fish: "
        '`eval "$(_DASK_SYNTH_COMPLETE=bash_source dask-synth)"`.',
        "",
        *_help(group),
    ]
    for name in dask_synth.list_commands(group):
        lines += [f"## {name}", "", *_help(click.Context(dask_synth.commands[name], group, info_name=name))]
    return "\n".join(lines)


def _help(context: click.Context) -> tuple[str, ...]:
    return "```text", context.get_help(), "```", ""


def _kind(row: DaskKind, components: Mapping[str, Schema], written: set[str]) -> Iterator[str]:
    schema = components[row.kind]
    short = ", ".join(f"`{name}`" for name in row.short_names)
    yield from (f"## {row.kind}", "", schema["description"], "")
    yield f"`kubectl get {row.plural}` (short: {short}; with the others: `kubectl get dask`)."
    if row.scale:
        yield f"`kubectl scale` sets `{row.scale['specReplicasPath'].removeprefix('.')}`."
    yield ""
    spec, status = schema["properties"]["spec"]["$ref"], schema["properties"]["status"]["$ref"]
    yield from ("| field | type | |", "| --- | --- | --- |")
    yield f"| `apiVersion` | string | `{row.api_version}` |"
    yield f"| `kind` | string | `{row.kind}` |"
    yield f"| `metadata` | {_METADATA} | {_rules(row.rules)} |"
    yield f"| **`spec`** | [{spec}](#{spec.lower()}) | {_rules(row.spec_rules)} |"
    yield f"| `status` | [{status}](#{status.lower()}) | Written by the operator. |"
    yield ""
    for name in (spec, status):
        yield from _struct(name, components, written)


def _struct(name: str, components: Mapping[str, Schema], written: set[str]) -> Iterator[str]:
    """One struct as a table, and below it those that it refers to and that have not been written yet."""
    if name in written:
        return
    written.add(name)
    schema = components[name]
    yield from (f"### {name}", "", schema["description"], "", "| field | type | |", "| --- | --- | --- |")
    below: list[str] = []
    for field, node in schema["properties"].items():
        node = _present(node)
        required = field in schema["required"]
        yield f"| {f'**`{field}`**' if required else f'`{field}`'} | {_type(node)} | {_description(node, components)} |"
        below += _references(node)
    yield ""
    for reference in below:
        yield from _struct(reference, components, written)


def _present(node: Schema) -> Schema:
    """The schema of a field that is there: without the alternative ``null``."""
    options = [option for option in node.get("anyOf", ()) if option != {"type": "null"}]
    return (
        {**options[0], **{key: value for key, value in node.items() if key != "anyOf"}} if len(options) == 1 else node
    )


def _type(node: Schema) -> str:
    if "x-vendored" in node:
        return _VENDORED[node["x-vendored"]]
    if "$ref" in node:
        return f"[{node['$ref']}](#{node['$ref'].lower()})"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "items" in node:
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    return "time" if node.get("format") == "date-time" else str(node["type"])


def _references(node: Schema) -> list[str]:
    if "x-vendored" in node:
        return []
    if "$ref" in node:
        return [node["$ref"]]
    return _references(node["items"]) if "items" in node else []


def _description(node: Schema, components: Mapping[str, Schema]) -> str:
    described = components[node["$ref"]]["description"] if "$ref" in node and "x-vendored" not in node else ""
    parts = [node.get("description", described), _bounds(node), _rules(node.get("x-kubernetes-validations", []))]
    if node.get("default") not in (None, ""):
        parts.append(f"Default: `{node['default']}`.")
    return " ".join(part for part in parts if part)


def _bounds(node: Schema) -> str:
    """Limits that are not just those of the number's type."""
    least, most, longest = node.get("minimum"), node.get("maximum"), node.get("maxLength")
    said = [f"At least {least}."] if least else []
    said += [f"At most {most}."] if most is not None and most < 2**31 - 1 else []
    said += [f"At most {longest} characters."] if longest else []
    return " ".join(said)


def _rules(rules: Iterable[Mapping[str, str]]) -> str:
    """The messages of CEL rules; `<` would begin a tag in Markdown."""
    return " ".join(f"Rule: {rule['message']}.".replace("<", "&lt;") for rule in rules)
