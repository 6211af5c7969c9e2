"""The page of all keyword arguments of the constructs, ``docs/keywords.md``, from their ``TypedDict``s."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import dask_constructs
from dask_constructs.described import keywords_of
from dask_constructs.keywords import Plain, is_required, stripped
from dask_crds.docstrings import declared_bases, field_docstrings

_DEFAULT = re.compile(r" ?\(default:? ([^()]+(?:\([^()]*\)[^()]*)?)\)")
#: Headings of what several constructs take; each is a ``TypedDict``.
_HEADINGS = {
    "Metadata": "Name, namespace, labels",
    "Placement": "Nodes",
    "ContainerOptions": "All Pods, also after construction",
    "PodOptions": "All Pods",
    "TemplateOptions": "Labels of the Pods of one kind",
    "RoleOptions": "Pods of one kind",
    "WorkerOptions": "Workers",
    "WorkerGroupOptions": "A further group",
    "ClusterOptions": "Cluster",
    "JobOptions": "Job",
    "ProgramProps": "Program",
    "ScheduleOptions": "Times, and what is kept",
    "ScheduleProps": "Schedule",
    "ScalingOptions": "Autoscaling",
    "IsolationOptions": "Network",
    "ExposeOptions": "Publishing a dashboard",
    "MonitorOptions": "Monitoring a cluster",
    "AlertThresholds": "From where on alerts are told",
    "JobWorkerGroupOptions": "A further group of a job",
}


def keywords(generated: str) -> str:
    """The page as Markdown; ``generated`` is what begins a comment that says so."""
    lines = [
        "# Keyword arguments",
        "",
        f"{generated}constructs/dask_constructs/ by `dask-synth`. Do not edit. -->",
        "",
        "What each construct takes; keywords in **bold** must be given, `None` is the same as left out. "
        "`help(DaskCluster)` says it too. Objects of cdk8s and cdk8s-plus stand for their names and amounts: a "
        '`ServiceAccount` where its name is wanted, `Size.gibibytes(8)` for `"8Gi"`, `Duration.minutes(5)` for 300.',
        "",
    ]
    shared: dict[type, None] = {}
    for name in sorted(dask_constructs.__all__):
        construct = getattr(dask_constructs, name)
        declared = keywords_of(construct.__init__) if inspect.isclass(construct) else None
        if declared is not None:
            lines += [f"## {name}", "", *_prose(vars(construct)["__doc__"])]
            lines += _taken(declared, shared)
            lines += _methods(construct, shared)
    lines += ["## Shared by several", ""]
    for group in sorted(shared, key=lambda one: list(_HEADINGS).index(one.__name__)):
        lines += [f"### {_HEADINGS[group.__name__]}", "", *_prose(inspect.getdoc(group) or ""), *_taken(group, shared)]
    return "\n".join(lines)


def _prose(docstring: str) -> Iterator[str]:
    """A docstring as Markdown: its examples in blocks of their own."""
    text = re.sub(r"``", "`", inspect.cleandoc(docstring)).split("\n\nAttributes:")[0]
    for part in text.split("\n\n"):
        if part.startswith(">>>"):
            yield from ("```python", re.sub(r"^(>>>|\.\.\.) ?", "", part, flags=re.MULTILINE), "```", "")
        else:
            yield from (part, "")


def _taken(declared: type, shared: dict[type, None]) -> Iterator[str]:
    """A table of the keywords that are declared here, and links to those that others have too."""
    bases, own = _bases(declared), _own(declared)
    if own:
        hints, said = get_type_hints(declared, include_extras=True), field_docstrings(declared)
        yield from ("| keyword | type | default | |", "| --- | --- | --- | --- |")
        for name in own:
            yield _row(name, hints[name], said[name])
        yield ""
    if bases:
        groups = [group for base in bases for group in _groups(base)]
        mentioned = [one for one in map(stripped, get_type_hints(declared).values()) if is_typeddict(one)]
        mentioned = [one for one in mentioned if one.__name__ in _HEADINGS]
        shared |= dict.fromkeys(_with_bases([*groups, *mentioned]))
        yield from (f"{'And those' if own else 'Those'} of {_listed([_link(group) for group in groups])}.", "")


def _bases(declared: type) -> list[type]:
    """What others take too; what is private is shown as the class's own."""
    return [base for base in declared_bases(declared) if not base.__name__.startswith("_")]


def _own(declared: type) -> list[str]:
    inherited = {name for base in _bases(declared) for name in field_docstrings(base)}
    return [name for name in field_docstrings(declared) if name not in inherited]


def _groups(declared: type) -> list[type]:
    """The class itself; in the place of one that declares nothing itself, its bases."""
    return [declared] if _own(declared) else [group for base in _bases(declared) for group in _groups(base)]


def _with_bases(groups: list[type]) -> Iterator[type]:
    for group in groups:
        yield group
        yield from _with_bases([one for base in _bases(group) for one in _groups(base)])


def _link(group: type) -> str:
    heading = _HEADINGS[group.__name__]
    return f"[{heading}](#{re.sub(r'[^a-z ]', '', heading.lower()).replace(' ', '-')})"


def _listed(links: list[str]) -> str:
    return ", ".join(links[:-1]) + " and " * (len(links) > 1) + links[-1]


def _row(name: str, hint: Any, said: str) -> str:
    default = _DEFAULT.search(said)
    meaning = said.replace(default[0], "") if default else said
    shown = f"**`{name}`**" if is_required(hint) else f"`{name}`"
    cells = [shown, _type(stripped(hint)), default[1] if default else "", meaning.replace("``", "`")]
    return "| " + " | ".join(cell.replace("``", "`").replace("|", "\\|") for cell in cells) + " |"


_TYPES = {int: "whole number", float: "number", str: "text", bool: "`True` or `False`"}


def _type(hint: Any) -> str:
    """A type as people think of it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        plain = [extra.wanted for extra in inner[1:] if isinstance(extra, Plain)]
        return plain[0] if plain else _type(inner[0])
    if origin is Literal:
        return " or ".join(f"`{option!r}`".replace("'", '"') for option in inner)
    if origin in (Union, UnionType):
        return " or ".join(_type(option) for option in inner if option is not NoneType)
    if origin is Sequence:
        return f"list: {_type(inner[0])}"
    if origin is Mapping:
        return f"mapping: {_type(inner[0])} to {_type(inner[1])}"
    if hint.__name__ in _HEADINGS:
        return f"mapping, see {_link(hint)}"
    return _TYPES.get(hint) or ("anything" if hint is Any else f"`{hint.__name__}`")


def _methods(construct: type, shared: dict[type, None]) -> Iterator[str]:
    """The methods by which more is declared."""
    for name, method in inspect.getmembers(construct, inspect.isfunction):
        declared = None if name.startswith("_") else keywords_of(method)
        if declared is not None:
            groups = _groups(declared)
            shared |= dict.fromkeys(_with_bases(groups))
            first = (inspect.getdoc(method) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
            yield from (f"`.{name}(...)`: {first} Keywords: {_listed([_link(group) for group in groups])}.", "")
