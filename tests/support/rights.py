"""What an API server lets somebody do: each verb of each resource that it serves, tried."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import yaml

from dask_constructs import rbac

#: Group, resource with its subresource, verb.
Right = tuple[str, str, str]
#: Verb -> method, whether it names an object, parameters. There is no such object, and nothing has such a label.
_REQUESTS: dict[str, tuple[str, bool, dict[str, str]]] = {
    "get": ("GET", True, {}),
    "list": ("GET", False, {"limit": "1"}),
    "watch": ("GET", False, {"watch": "true", "labelSelector": "none=such"}),
    "create": ("POST", False, {}),
    "update": ("PUT", True, {}),
    "patch": ("PATCH", True, {}),
    "delete": ("DELETE", True, {}),
    "deletecollection": ("DELETE", False, {"labelSelector": "none=such"}),
}
_PATCH = {"Content-Type": "application/merge-patch+json"}
#: What Kubernetes grants to every ServiceAccount: to ask about itself, and whom to trust.
EVERYBODY: frozenset[Right] = frozenset(
    {
        ("authentication.k8s.io", "selfsubjectreviews", "create"),
        ("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
        ("authorization.k8s.io", "selfsubjectrulesreviews", "create"),
        *(("certificates.k8s.io", "clustertrustbundles", verb) for verb in ("get", "list", "watch")),
    }
)


class Trying:
    """Somebody, who tries.

    Args:
        kubeconfig: where the API server is.
        token: theirs.
    """

    def __init__(self, kubeconfig: Path, token: str) -> None:
        cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        trusted = ssl.create_default_context(cafile=cluster["certificate-authority"])
        bearer = {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=cluster["server"], verify=trusted, headers=bearer, timeout=30)

    def tried(self, namespace: str, only: Collection[Right] = ()) -> dict[Right, bool]:
        """Each right that there is, and whether they have it: in a namespace, and where there are none.

        The API server asks whether somebody may before it looks at what they ask for. So 403 means that they may not,
        and what is allowed does nothing.

        Args:
            namespace: where.
            only: of these; all if it is empty.
        """
        return {
            right: self._may(verb, path, resource)
            for group, prefix in self._groups()
            for found in self._json(prefix)["resources"]
            for resource in [str(found["name"])]
            for path in [f"{prefix}/namespaces/{namespace}" if found["namespaced"] else prefix]
            for verb in found["verbs"]
            if (right := (group, resource, verb)) in only or not only
        }

    def refused(self, method: str, path: str, **headers: str) -> bool:
        """Whether one request is."""
        return self._client.request(method, path, headers=headers).status_code == httpx.codes.FORBIDDEN

    def _groups(self) -> Iterator[tuple[str, str]]:
        yield "", "/api/v1"
        for group in self._json("/apis")["groups"]:  # rights are to groups, whatever the version
            yield group["name"], f"/apis/{group['preferredVersion']['groupVersion']}"

    def _may(self, verb: str, path: str, resource: str) -> bool:
        method, named, parameters = _REQUESTS[verb]
        kind, _, sub = resource.partition("/")
        parts = [path, kind, *(["none-such"] if named or sub else []), *filter(None, [sub])]
        body: dict[str, Any] = {} if method == "GET" else {"json": {}, "headers": _PATCH if verb == "patch" else {}}
        with self._client.stream(method, "/".join(parts), params=parameters, **body) as answer:
            if verb != "watch":  # which ends with the connection, and others keep that
                answer.read()
            return answer.status_code != httpx.codes.FORBIDDEN

    def _json(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get(path).raise_for_status().json()
        return found


def granted(permissions: tuple[rbac.Permission | rbac.Other | rbac.Path, ...]) -> set[Right]:
    """The rights that permissions give, but for those to single objects."""
    rules = [rule for rule in rbac.rules(permissions) if "resourceNames" not in rule]
    return {right for rule in rules for right in product(rule["apiGroups"], rule["resources"], rule["verbs"])}


def astray(somebody: Trying, rights: set[Right], namespace: str, others: str) -> set[Right]:
    """Rights that they have and should not, or the other way round.

    Args:
        somebody: who tries.
        rights: what they may do in their namespace, as far as the API server serves it.
        namespace: theirs.
        others: a namespace where they may do nothing. Whoever may do something everywhere may do it in their own.
    """
    tried = somebody.tried(namespace)
    here = {right for right, may in tried.items() if may}
    elsewhere = {right for right, may in somebody.tried(others, here).items() if may}
    return (here ^ ((rights | EVERYBODY) & tried.keys())) | (elsewhere ^ EVERYBODY)
