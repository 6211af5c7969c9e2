"""Who has ``dask-notebook`` may do what it grants and nothing else: each verb of each resource is tried."""

from __future__ import annotations

import pytest
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, eventually
from tests.support.notebook import NAME, Notebook
from tests.support.rights import Trying, astray, granted

from dask_constructs import rbac

pytestmark = pytest.mark.control_plane


def test_a_notebook_may_do_nothing_else(control_plane: ControlPlane, kubectl: Kubectl) -> None:
    """One right too many is found among all, which shows that it would be; then that is taken back."""
    notebook = Notebook(control_plane, kubectl)
    somebody = Trying(control_plane.kubeconfig, kubectl("create", "token", NAME).strip())
    secret = f"/api/v1/namespaces/{kubectl.namespace}/secrets/none-such"
    notebook.give([*rbac.NOTEBOOK, rbac.Permission("Secret", "get", "too much")])
    eventually(lambda: not somebody.refused("GET", secret))
    assert astray(somebody, granted(rbac.NOTEBOOK), kubectl.namespace, "kube-system") == {("", "secrets", "get")}
    notebook.give(list(rbac.NOTEBOOK))
    eventually(lambda: somebody.refused("GET", secret))
    assert somebody.refused("GET", "/metrics")
    assert somebody.refused("GET", "/api", **{"Impersonate-User": "admin"})
