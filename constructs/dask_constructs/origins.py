"""Which keyword argument a finding about a manifest comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from dask_crds.names import Component
from dask_resources.pod import main_container

from . import processes
from .keywords import Options
from .manifest import problems
from .roles import RUNNER, SCHEDULER, WORKER, Role
from .templates import runner_pod, scheduler_pod, worker_pod

Manifest = Mapping[str, Any]

_POD: Mapping[Role, Callable[[Options], Any]] = {SCHEDULER: scheduler_pod, WORKER: worker_pod, RUNNER: runner_pod}


def findings(manifest: Manifest, roles: Mapping[Role, str]) -> list[str]:
    """All that is wrong with the manifest of a construct: more than what the API server refuses.

    Args:
        manifest: of one of our kinds.
        roles: the Pods that it has, and where their templates are, as JSON pointers.
    """
    found = problems(manifest)
    return found if found else [*_worker_problems(manifest, roles)]


def _worker_problems(manifest: Manifest, roles: Mapping[Role, str]) -> Iterator[str]:
    if WORKER not in roles:
        return
    fields = [*_fields(roles[WORKER]), "spec"]
    pod: Any = manifest
    for field in fields:
        pod = pod[field]
    main = main_container(pod, Component.WORKER)
    for number, container in enumerate(pod["containers"]):
        if container["name"] == main:
            for part, message in processes.contradictions(container, pod):
                yield f"{'.'.join(fields)}.containers[{number}]{part}: {message}"


def with_origins(found: Iterable[str], manifest: Manifest, roles: Mapping[Role, str], options: Options) -> list[str]:
    """Findings, those that would not be there without ``worker_pod`` and its like with that keyword before them.

    Args:
        found: the findings.
        manifest: the manifest that the options have made.
        roles: see ``findings``.
        options: keyword arguments.
    """
    lines, keywords = list(found), {f"{role.keyword}_pod": role for role in roles}
    changes = keywords.keys() & options.keys() if lines else ()
    declared = set(findings(manifest, roles)) if changes else set()
    origins: dict[str, str] = {}
    for keyword in sorted(changes):
        role = keywords[keyword]
        plain = _POD[role]({name: value for name, value in options.items() if name != keyword})
        without = _replaced(manifest, [*_fields(roles[role]), "spec"], plain)
        origins |= dict.fromkeys(declared - set(findings(without, roles)), keyword)
    return [f"{origins[line]}: {line}" if line in origins else line for line in lines]


def _fields(pointer: str) -> list[str]:
    return pointer.strip("/").split("/")


def _replaced(node: Manifest, fields: list[str], value: Any) -> Any:
    first, *rest = fields
    return {**node, first: _replaced(node[first], rest, value) if rest else value}
