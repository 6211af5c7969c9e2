"""Somebody with a notebook: a ServiceAccount with ``dask-notebook`` and nothing else, and a kubeconfig of theirs."""

from __future__ import annotations

from pathlib import Path

import yaml

from dask_constructs import rbac
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl

NAME = "ada"
Rules = list[rbac.Permission | rbac.Other | rbac.Path]


class Notebook:
    """The ServiceAccount ``ada`` of a namespace."""

    def __init__(self, cluster: ControlPlane, kubectl: Kubectl) -> None:
        self._cluster, self._kubectl = cluster, kubectl
        self.user = f"system:serviceaccount:{kubectl.namespace}:{NAME}"
        kubectl("create", "serviceaccount", NAME)
        self.give(list(rbac.NOTEBOOK))
        kubectl("create", "rolebinding", NAME, f"--role={NAME}", f"--serviceaccount={kubectl.namespace}:{NAME}")

    def give(self, permissions: Rules) -> None:
        """These rights, and no others."""
        role = {"apiVersion": f"{rbac.RBAC_GROUP}/v1", "kind": "Role", "metadata": {"name": NAME}}
        self._kubectl.apply({**role, "rules": rbac.rules(permissions)})

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig with a token of theirs, whose context names the namespace."""
        config = yaml.safe_load(self._cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": self._kubectl("create", "token", NAME).strip()}
        config["contexts"][0]["context"]["namespace"] = self._kubectl.namespace
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path
