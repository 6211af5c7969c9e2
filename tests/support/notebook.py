"""Somebody with a notebook: a ServiceAccount with ``dask-notebook`` and nothing else, and a kubeconfig of theirs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dask_constructs import DaskClusterTemplate, rbac
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, eventually
from tests.support.constructs import chart, synth

NAME = "ada"
Rules = list[rbac.Permission | rbac.Other | rbac.Path]


class Notebook:
    """The ServiceAccount ``ada`` of a namespace."""

    def __init__(self, cluster: ControlPlane, kubectl: Kubectl) -> None:
        self._cluster, self._kubectl = cluster, kubectl
        self.user = f"system:serviceaccount:{kubectl.namespace}:{NAME}"
        self._times = 0
        kubectl("create", "serviceaccount", NAME)
        kubectl("create", "rolebinding", NAME, f"--role={NAME}", f"--serviceaccount={kubectl.namespace}:{NAME}")
        self.give(list(rbac.NOTEBOOK))

    def give(self, permissions: Rules) -> None:
        """These rights and no others; the API server knows them then: that of an object that is not there tells."""
        self._times += 1
        mark = f"given-{self._times}"
        known = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [mark], "verbs": ["get"]}
        role = {"apiVersion": f"{rbac.RBAC_GROUP}/v1", "kind": "Role", "metadata": {"name": NAME}}
        self._kubectl.apply({**role, "rules": [*rbac.rules(permissions), known]})
        question = ("auth", "can-i", "get", f"configmaps/{mark}", f"--as={self.user}")
        eventually(lambda: self._kubectl(*question).strip() == "yes")

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig with a token of theirs, whose context names the namespace."""
        config = yaml.safe_load(self._cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": self._kubectl("create", "token", NAME).strip()}
        config["contexts"][0]["context"]["namespace"] = self._kubectl.namespace
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path


@contextmanager
def template(cluster: ControlPlane, notebook: Notebook, kubectl: Kubectl, name: str, **options: Any) -> Iterator[None]:
    """A template that the notebook may use, as soon as the API server knows its policies, which takes it a moment."""
    c = chart()
    DaskClusterTemplate(c, "t", name=name, namespace=kubectl.namespace, **options)
    written = yaml.safe_dump_all(synth(c))
    cluster.kubectl("apply", "-f", "-", input=written)
    notebook.give([*rbac.NOTEBOOK, *rbac.template_user(name)])
    by_hand = json.dumps(kubectl.json("get", "daskcluster", name) | {"metadata": {"name": "mine"}})

    def is_known() -> bool:
        try:
            kubectl("create", f"--as={notebook.user}", "--dry-run=server", "-f", "-", input=by_hand)
        except subprocess.CalledProcessError as error:
            return "must be made from a template" in str(error.stderr)
        return False

    eventually(is_known, seconds=60)
    yield
    cluster.kubectl("delete", "--wait=false", "-f", "-", input=written)
