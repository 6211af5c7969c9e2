"""What is wrong with the manifest of a construct, and which keyword arguments it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

from dask_crds.names import Component
from dask_resources.pod import main_container

from . import processes
from .keywords import Options
from .manifest import problems
from .writable import unwritable

Manifest = Mapping[str, Any]


class Call(NamedTuple):
    """A constructor, or a method that states more, such as ``add_worker_group``, as it was called."""

    options: Options  #: its keyword arguments
    make: Callable[[Manifest, Options], Manifest]  #: the manifest after it, of that before and of keyword arguments


def made(calls: Iterable[Call]) -> Manifest:
    """The manifest that calls have made, one after the other."""
    return reduce(lambda manifest, call: call.make(manifest, call.options), calls, {})


def findings(manifest: Manifest) -> list[str]:
    """All that is wrong with the manifest of a construct: more than what the API server refuses."""
    return problems(manifest) or [*_worker_problems(manifest), *_unwritable(manifest)]


def _unwritable(manifest: Manifest) -> Iterator[str]:
    """What a volume or a patch has brought in: of keywords it is told before."""
    for field in ("metadata", "spec"):
        yield from (f"{part}: {message}" for part, message in unwritable(manifest.get(field), field))


def _worker_problems(manifest: Manifest) -> Iterator[str]:
    for path, template in worker_templates(manifest):
        main = main_container(template["spec"], Component.WORKER)
        for number, container in enumerate(template["spec"]["containers"]):
            if container["name"] == main:
                for part, message in processes.contradictions(container, template["spec"]):
                    yield f"{path}.spec.containers[{number}]{part}: {message}"


def worker_templates(manifest: Manifest) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The workers of a resource without mistakes: the default group's, or a group's own, then those of further groups.

    Returns:
        The field, and what it holds.
    """
    path, spec = "spec.cluster.spec" if manifest["kind"] == "DaskJob" else "spec", cluster_spec(manifest)
    if "worker" in spec:
        yield f"{path}.worker", spec["worker"]
    for number, group in enumerate(spec.get("workerGroups") or ()):
        yield f"{path}.workerGroups[{number}]", group


def cluster_spec(manifest: Manifest) -> Mapping[str, Any]:
    """The spec of a cluster, also of the one in a job; of a group, which has workers as a cluster has, its own."""
    spec: Mapping[str, Any] = manifest["spec"]
    return spec["cluster"]["spec"] if manifest["kind"] == "DaskJob" else spec


def with_origins(
    found: Iterable[str], calls: Sequence[Call], look: Callable[[Manifest], Iterable[str]] = findings
) -> list[str]:
    """Findings, with the keywords before them without any of which they would not be there.

    Args:
        found: the findings.
        calls: those that have made the manifest.
        look: what is wrong with a manifest.
    """
    lines = list(found)
    if not lines:
        return []
    declared = _without_numbers(look(made(calls)))
    origins: dict[str, list[str]] = {}
    for number, call in enumerate(calls):
        for keyword in call.options:
            less = call._replace(options={name: value for name, value in call.options.items() if name != keyword})
            for line in _mended(declared, [*calls[:number], less, *calls[number + 1 :]], look):
                origins.setdefault(line, []).append(keyword)
    return [": ".join([*_named(origins.get(_without_number(line), ())), line]) for line in lines]


def _mended(declared: set[str], calls: Sequence[Call], look: Callable[[Manifest], Iterable[str]]) -> set[str]:
    """The findings that others would not have; none if they would have others instead."""
    try:
        left = _without_numbers(look(made(calls)))
    except Exception:  # a user's function that counts on what is left out now
        return set()
    return declared - left if left <= declared else set()


def _without_numbers(lines: Iterable[str]) -> set[str]:
    return {_without_number(line) for line in lines}


def _without_number(line: str) -> str:
    """A finding whatever its place in lists, in which less may come before it."""
    return re.sub(r"\[\d+\]", "[]", line)


def _named(keywords: Iterable[str]) -> list[str]:
    return [", ".join(dict.fromkeys(keywords))] if keywords else []
