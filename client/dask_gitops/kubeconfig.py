"""Which Kubernetes is meant, and who asks there: as ``kubectl`` reads kubeconfigs, where kr8s would guess."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .errors import Unreachable

_USUAL = "~/.kube/config"
#: What names a file, which may be relative to the kubeconfig, and what counts before it.
_NAMES_FILE = {
    "certificate-authority": "certificate-authority-data",
    "client-certificate": "client-certificate-data",
    "client-key": "client-key-data",
    "tokenFile": "",  # counts more than "token": it is renewed
}


def kubeconfig_of(context: str | None, kubeconfig: str | None) -> dict[str, Any] | None:
    """The kubeconfig of one context, its cluster and its user; ``None`` where there is none at all, as in most Pods.

    Of several files each name is that of the first that has it, as ``kubectl`` merges them; kr8s takes the last, which
    may be another Kubernetes, or somebody else. Nor does it know ``tokenFile``.

    Args:
        context: that was asked for.
        kubeconfig: path that was asked for (default: ``$KUBECONFIG``, then ``~/.kube/config``).

    Raises:
        Unreachable: a file that was named is missing or is no kubeconfig, or none of them chooses a context.
    """
    paths = list(_files(kubeconfig))
    files = [_read(path) for path in paths if path.exists()]
    if not files:
        if kubeconfig:
            raise Unreachable(f"no way to Kubernetes: {kubeconfig} does not exist")
        if context:
            raise Unreachable(f"no way to Kubernetes: no kubeconfig is there, and so no context {context}")
        return None
    there = {kind: _merged(files, f"{kind}s") for kind in ("context", "cluster", "user")}
    chosen = str(context or next((file["current-context"] for file in files if file.get("current-context")), ""))
    if chosen not in there["context"]:
        what = f"there is no context {chosen}" if chosen else "no context is chosen"
        where, others = ", ".join(map(str, paths)), ", ".join(there["context"]) or "none"
        raise Unreachable(f"no way to Kubernetes: {what} in {where}; there are {others}")
    found = {"cluster": "", "user": "", **there["context"][chosen]}
    own: dict[str, Any] = {"current-context": chosen, "contexts": [{"name": chosen, "context": found}]}
    for kind in ("cluster", "user"):
        name = str(found[kind])
        if name and name not in there[kind]:
            raise Unreachable(f"no way to Kubernetes: context {chosen} names {kind} {name}, which is not there")
        own[f"{kind}s"] = [{"name": found[kind], kind: _used(there[kind].get(name) or {})}]
    return own


def _files(kubeconfig: str | None) -> Iterator[Path]:
    stated = kubeconfig or os.environ.get("KUBECONFIG") or _USUAL
    for each in stated.split(os.pathsep):
        if each:
            yield Path(each).expanduser()


def _read(path: Path) -> dict[str, Any]:
    """The contents of a file, as JSON data: contexts, clusters and users by name, and what files they name."""
    try:
        found: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(path.read_text()) or {}, default=str))
        for kind in ("context", "cluster", "user"):
            named = {str(each["name"]): each.get(kind) or {} for each in found.get(f"{kind}s") or ()}
            found[f"{kind}s"] = {name: _found_from(path, entry) for name, entry in named.items()}
    except OSError as error:
        raise Unreachable(f"no way to Kubernetes: {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, LookupError) as error:
        raise Unreachable(f"no way to Kubernetes: {path} is no kubeconfig") from error
    return found


def _found_from(path: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """An entry, the kubeconfig being where files and the program that it names are; kr8s would look here first."""
    folder = path.absolute().parent
    files: dict[str, Any] = {name: str(folder / entry[name]) for name in _NAMES_FILE if entry.get(name)}
    program = entry.get("exec") or {}
    if "/" in str(program.get("command")):  # else it is one of $PATH
        files["exec"] = {**program, "command": str(folder / program["command"])}
    return {name: value for name, value in entry.items() if value} | files


def _merged(files: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {name: entry for file in reversed(files) for name, entry in file[kind].items()}


def _used(entry: dict[str, Any]) -> dict[str, Any]:
    """A cluster or user as kr8s reads it: with the contents of its ``tokenFile``, and no file that does not count."""
    used = {name: value for name, value in entry.items() if not entry.get(_NAMES_FILE.get(name, ""))}
    for name in _NAMES_FILE.keys() & used.keys():
        try:
            content = Path(used[name]).read_bytes()
        except OSError as error:
            told = f"no way to Kubernetes: {used[name]}, which the kubeconfig names: {error.strerror}"
            raise Unreachable(told) from error
        if name == "tokenFile":
            used["token"] = content.decode(errors="replace").strip()
    return used
