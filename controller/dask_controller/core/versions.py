"""Whether runner, scheduler and workers run the same software, in words for people."""

from __future__ import annotations

from .questions import Versions


def is_complete(found: Versions) -> bool:
    """Whether everybody has told their versions: the scheduler, a worker, and a client, which is the runner."""
    return bool(found.scheduler and found.workers and found.clients)


def differences(found: Versions) -> str:
    """The packages of which there is more than one version; empty if all agree.

    >>> differences(Versions(({"dask": "1"},), ({"dask": "1"}, {"dask": "2"}), ()))
    'dask: scheduler 1, workers 1 and 2'
    """
    roles = {"scheduler": found.scheduler, "workers": found.workers, "runner": found.clients}
    told: list[str] = []
    for package in sorted({name for sets in roles.values() for versions in sets for name in versions}):
        present = {role: sorted({v.get(package, "none") for v in sets}) for role, sets in roles.items() if sets}
        if len({version for versions in present.values() for version in versions}) > 1:
            parts = [f"{role} {' and '.join(versions)}" for role, versions in present.items()]
            told.append(f"{package}: {', '.join(parts)}")
    return "; ".join(told)
