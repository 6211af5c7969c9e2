"""Which context of a kubeconfig is meant: as ``kubectl`` decides, where kr8s would guess."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .errors import Unreachable

_USUAL = "~/.kube/config"


def context_of(context: str | None, kubeconfig: str | None) -> str | None:
    """Name of the context that is meant; ``None`` without any kubeconfig, as in most Pods.

    kr8s takes the first of all where the first file names no current one, and whoever the Pod is where a file that was
    named is missing: both may be another Kubernetes.

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
    there = [str(each["name"]) for file in files for each in file["contexts"]]
    chosen = context or next((file["current-context"] for file in files if file.get("current-context")), "")
    if chosen in there:
        return str(chosen)
    what = f"there is no context {chosen}" if chosen else "no context is chosen"
    where, others = ", ".join(map(str, paths)), ", ".join(dict.fromkeys(there)) or "none"
    raise Unreachable(f"no way to Kubernetes: {what} in {where}; there are {others}")


def _files(kubeconfig: str | None) -> Iterator[Path]:
    stated = kubeconfig or os.environ.get("KUBECONFIG") or _USUAL
    for each in [stated] if os.name == "nt" else stated.split(":"):  # as kr8s splits it
        if each:
            yield Path(each).expanduser()


def _read(path: Path) -> dict[str, Any]:
    """The contents of a file, its contexts being a list of what has a name."""
    try:
        found = yaml.safe_load(path.read_text())
        contexts = found.get("contexts") or []
        return {**found, "contexts": [each for each in contexts if each["name"]]}
    except OSError as error:
        raise Unreachable(f"no way to Kubernetes: {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, LookupError) as error:
        raise Unreachable(f"no way to Kubernetes: {path} is no kubeconfig") from error
