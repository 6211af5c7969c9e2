"""What keyword arguments say of a Pod, laid over it: for all roles alike, when it is made and afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from dask_crds.kubernetes.core_v1 import EnvVar, EnvVarSource, PodSpec
from dask_crds.names import Component

from .keywords import Options
from .placement import placed
from .volumes import CODE, with_volumes


class Role(NamedTuple):
    """One of the kinds of Pods that a cluster or a job consists of."""

    keyword: str  #: what it is called in keyword arguments
    component: str  #: the ``Component`` of its Pods
    container: str  #: name of the container that matters


SCHEDULER = Role("scheduler", Component.SCHEDULER, "scheduler")
WORKER = Role("worker", Component.WORKER, "worker")
RUNNER = Role("runner", Component.JOB_RUNNER, "job")


def options_of(role: Role, options: Options) -> Options:
    """What is said of all Pods, and of those of a role: mappings are added up, of anything else the latter counts."""
    common = {name: value for name, value in options.items() if name not in ("labels", "annotations")}
    own = options.get(role.keyword, {})
    both = {
        name: {**common[name], **own[name]}
        for name in own.keys() & common.keys()
        if isinstance(own[name], Mapping) and isinstance(common[name], Mapping)
    }
    return {**common, **own, **both}


def dressed(pod: PodSpec, role: Role, options: Options) -> PodSpec:
    """The Pod with what ``RoleChanges`` say of it, in addition to what it has already."""
    containers: list[Any] = list(pod["containers"])
    at = next(number for number, container in enumerate(containers) if container["name"] == role.container)
    containers[at] = _dressed_container(containers[at], options)
    fields: dict[str, Any] = {field: options[option] for option, field in _FIELDS.items() if option in options}
    if "image_pull_secrets" in options:
        fields["imagePullSecrets"] = [{"name": name} for name in options["image_pull_secrets"]]
    changed = cast("PodSpec", {**pod, **fields, "containers": containers})
    if "service_account" in options:
        changed.pop("automountServiceAccountToken", None)
    return placed(with_volumes(changed, role.container, options), options, role.component)


_FIELDS = {
    "service_account": "serviceAccountName",
    "host_users": "hostUsers",
    "termination_grace_period": "terminationGracePeriodSeconds",
}


def _dressed_container(container: dict[str, Any], options: Options) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if "image_pull_policy" in options:
        fields["imagePullPolicy"] = options["image_pull_policy"]
    if "env_from" in options:
        fields["envFrom"] = [*(container.get("envFrom") or ()), *options["env_from"]]
    present = {variable["name"]: variable for variable in container.get("env") or ()}
    env = present | {name: _variable(name, value) for name, value in options.get("env", {}).items()}
    if "code" in options:
        fields["workingDir"] = CODE
        path = env.get("PYTHONPATH", {}).get("value")
        if path is None and "PYTHONPATH" not in env:
            env["PYTHONPATH"] = _variable("PYTHONPATH", CODE)
        elif path is not None and CODE not in path.split(":"):
            env["PYTHONPATH"] = _variable("PYTHONPATH", f"{CODE}:{path}")
    if env:
        fields["env"] = list(env.values())
    return {**container, **fields}


def _variable(name: str, value: str | EnvVarSource) -> EnvVar:
    return {"name": name, "value": value} if isinstance(value, str) else {"name": name, "valueFrom": value}
