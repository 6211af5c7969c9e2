"""Argo CD's own API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen


class ArgoServer:
    """Argo CD's own API, which its user interface and its command line speak to.

    Args:
        url: of ``/api``.
        token: of whom to act as; nobody if empty.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._url, self._token = url, token

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.request("GET", "version"))
        except OSError:
            return False

    def log_in(self, user: str, password: str) -> None:
        """Act as this user from now on."""
        self._token = self.request("POST", "v1/session", {"username": user, "password": password})["token"]

    def as_role(self, project: str, role: str) -> ArgoServer:
        """The same server for a member of a project."""
        names = {"project": project, "role": role}
        return ArgoServer(self._url, self.request("POST", f"v1/projects/{project}/roles/{role}/token", names)["token"])

    def actions(self, application: str, kind: str, name: str) -> dict[str, bool]:
        """The actions that it offers on a Dask resource, and whether they can be used now."""
        query = urlencode(self._resource(application, kind, name))
        found = self.request("GET", f"v1/applications/{application}/resource/actions?{query}")["actions"]
        return {action["name"]: not action.get("disabled", False) for action in found}

    def act(self, application: str, kind: str, name: str, action: str, **parameters: str) -> None:
        """Use an action on a Dask resource."""
        given = [{"name": name, "value": value} for name, value in parameters.items()]
        body = {**self._resource(application, kind, name), "action": action, "resourceActionParameters": given}
        self.request("POST", f"v1/applications/{application}/resource/actions/v2", body)

    @staticmethod
    def _resource(application: str, kind: str, name: str) -> dict[str, str]:
        where = {"name": application, "namespace": application}  # the tests' applications are named like these
        return {**where, "resourceName": name, "group": "kubernetes.dask.org", "version": "v1", "kind": kind}

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Raises urllib.error.HTTPError, as 403 where the role may not."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self._url}/{path}", data, headers, method=method), timeout=30) as answer:
            return json.load(answer)
