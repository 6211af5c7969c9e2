"""The user's own way to the API server, by kr8s: what is read and written there, and what its refusals mean.

Everything is asynchronous and belongs to the event loop that it was opened in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import kr8s
import kr8s.asyncio
from kr8s.asyncio.objects import new_class

from dask_crds.kinds import DASK_KINDS, RESOURCES, ApiResource

from .errors import DaskGitopsError, MissingRight, NoSuchCluster, NoSuchObject, NotInstalled, Unreachable, refusal
from .kubeconfig import kubeconfig_of
from .proxies import exceptions

# kr8s warns of each release of Kubernetes that is newer than itself.
warnings.filterwarnings("ignore", message="Kubernetes version .* is not supported", category=UserWarning)

_ROWS = {
    **RESOURCES,
    "Ingress": ApiResource("networking.k8s.io", "v1", "ingresses", "Ingress"),
    "HTTPRoute": ApiResource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute"),
}
#: Where Kubernetes tells a Pod in which namespace it is.
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
#: Seconds that an answer of the API server may take.
TIMEOUT = 30.0
#: Who wrote a field, for ``metadata.managedFields``.
FIELD_MANAGER = "dask-gitops-client"
_MANAGED = {"fieldManager": FIELD_MANAGER}
_MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


def _class_of(row: ApiResource) -> type[Any]:
    made: type[Any] = new_class(
        row.kind, version=row.api_version, namespaced=row.namespaced, plural=row.plural, asyncio=True
    )
    return made


#: kr8s' classes of our kinds, by kind: what ``kr8s.asyncio.get`` and its friends take.
OBJECTS: dict[str, type[Any]] = {kind: _class_of(row) for kind, row in DASK_KINDS.items()}


@dataclass(frozen=True)
class Access:
    """One Kubernetes cluster as one user, and the namespace that is meant where none is named.

    Objects are plain JSON data, as the API server sends it.
    """

    api: Any  #: of kr8s
    namespace: str

    @classmethod
    async def open(
        cls, namespace: str | None = None, *, context: str | None = None, kubeconfig: str | None = None
    ) -> Access:
        """Sign in as ``kubectl`` would, or as the Pod's ServiceAccount.

        Args:
            namespace: where to look (default: that of the context, or the Pod's own).
            context: of the kubeconfig (default: its current one).
            kubeconfig: path of the file (default: ``$KUBECONFIG``, then ``~/.kube/config``).

        Raises:
            Unreachable: there is no Kubernetes to be found, or it does not answer.
        """

        async def chosen() -> dict[str, Any] | None:
            return await asyncio.to_thread(kubeconfig_of, context, kubeconfig)

        with _signing_in():
            found = await chosen()
            os.environ.update(exceptions(_server(found), os.environ))
            # kr8s itself would take the namespace of the current context, whichever is asked for.
            api = await kr8s.asyncio.api(namespace=namespace or "default", kubeconfig=found)  # type: ignore[arg-type]
        await _sign_in_tidily(api, chosen)
        api.timeout = httpx.Timeout(TIMEOUT)
        return cls(api, namespace or _own_namespace(api) or api.auth._context.get("namespace") or "default")

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self.api.auth.server)

    async def get(self, kind: str, name: str, *, subresource: str = "") -> dict[str, Any]:
        """One object.

        Raises:
            NoSuchObject: there is none; of a DaskCluster it is `NoSuchCluster`.
            MissingRight: the user may not get it.
        """
        return await self._ask("get", kind, name, subresource=subresource)

    async def all(
        self, kind: str, *, everywhere: bool = False, labels: Mapping[str, str] = {}, fields: str = ""
    ) -> list[dict[str, Any]]:
        """Objects of the namespace, or of all.

        Args:
            kind: one of `dask_crds.kinds.RESOURCES`.
            everywhere: whether to look in all namespaces.
            labels: that they must have.
            fields: field selector, as ``involvedObject.name=x``.
        """
        params = {"labelSelector": ",".join(f"{k}={v}" for k, v in labels.items()), "fieldSelector": fields}
        given = {key: value for key, value in params.items() if value}
        answer = await self._ask("list", kind, everywhere=everywhere, params=given)
        return list(answer.get("items") or ())

    async def patch(self, kind: str, name: str, change: Mapping[str, Any], *, subresource: str = "") -> dict[str, Any]:
        """Change what ``change`` names, by a JSON merge patch."""
        sent: dict[str, Any] = {"content": json.dumps(change), "headers": _MERGE_PATCH, "params": _MANAGED}
        return await self._ask("patch", kind, name, method="PATCH", subresource=subresource, **sent)

    async def create(self, kind: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object in the namespace."""
        sent: dict[str, Any] = {"content": json.dumps(manifest), "params": _MANAGED}
        return await self._ask("create", kind, method="POST", **sent)

    async def delete(self, kind: str, name: str, *, uid: str) -> None:
        """Delete one object, and no other that has its name by now."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        await self._ask("delete", kind, name, method="DELETE", content=json.dumps(options))

    async def logs(self, pod: str, *, container: str = "", lines: int | None = None, previous: bool = False) -> str:
        """What a container has written, from its last lines."""
        given: dict[str, Any] = {"container": container, "tailLines": lines, "previous": "true" if previous else ""}
        params = {key: value for key, value in given.items() if value}
        return (await self._asked("get", "Pod", pod, subresource="log", params=params)).text

    async def require(self, verb: str, kind: str, *, subresource: str = "", name: str = "") -> None:
        """Ask whether the user may do something, where merely trying it would not say so.

        Raises:
            MissingRight: they may not.
        """
        if not await self.may(verb, kind, subresource=subresource, name=name):
            raise MissingRight(verb, _resource(kind, subresource), self.namespace, name=name)

    async def may(self, verb: str, kind: str, *, subresource: str = "", name: str = "") -> bool:
        """Whether the user may do something in the namespace. Everybody may ask that (``system:basic-user``)."""
        row = _ROWS[kind]
        asked = {"verb": verb, "group": row.group, "resource": row.plural, "namespace": self.namespace}
        attributes = {**asked, "subresource": subresource, "name": name}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        with _told("create", "selfsubjectaccessreviews.authorization.k8s.io", ""):
            answer = await self._sent(
                "POST", version="authorization.k8s.io/v1", url="selfsubjectaccessreviews", content=json.dumps(review)
            )
        return bool(answer.json()["status"]["allowed"])

    async def user(self) -> str:
        """Who we are to the API server. Everybody may ask that (``system:basic-user``)."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        with _told("create", "selfsubjectreviews.authentication.k8s.io", ""):
            answer = await self._sent(
                "POST", version="authentication.k8s.io/v1", url="selfsubjectreviews", content=json.dumps(review)
            )
        return str(answer.json()["status"]["userInfo"]["username"])

    async def _ask(self, verb: str, kind: str, name: str = "", **how: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = (await self._asked(verb, kind, name, **how)).json()
            return answer
        except _Missing:
            raise await self._missing(kind, name) from None

    async def _asked(
        self,
        verb: str,
        kind: str,
        name: str = "",
        *,
        method: str = "GET",
        subresource: str = "",
        everywhere: bool = False,
        **request: Any,
    ) -> httpx.Response:
        row = _ROWS[kind]
        namespace = "" if everywhere or not row.namespaced else self.namespace
        url = "/".join(filter(None, (row.plural, name, subresource)))
        with _told(verb, _resource(kind, subresource), namespace, name):
            return await self._sent(method, version=row.api_version, namespace=namespace, url=url, **request)

    async def _sent(self, method: str, **request: Any) -> httpx.Response:
        """Ask, and sign in anew only where the API server no longer knows who asks.

        kr8s would do so for each refusal, three times, and each time close all port-forwards with its session.
        """
        answer: httpx.Response
        async with self.api.call_api(method, raise_for_status=False, **request) as answer:
            pass  # it has been read
        if answer.status_code == 401:
            async with self.api.call_api(method, **request) as answer:
                pass
        if answer.is_error:
            raise kr8s.ServerError(_words(answer), response=answer)
        return answer

    async def _missing(self, kind: str, name: str) -> DaskGitopsError:
        if not name:  # not even the kind is there
            return NotInstalled() if kind in DASK_KINDS else Unreachable(f"this Kubernetes has no {kind}")
        names: list[str] = []
        try:
            names = [each["metadata"]["name"] for each in await self.all(kind)]
        except NotInstalled as error:
            return error
        except DaskGitopsError:  # not everybody may list
            pass
        return (NoSuchCluster if kind == "DaskCluster" else NoSuchObject)(kind, name, self.namespace, names)


@contextlib.contextmanager
def _signing_in() -> Iterator[None]:
    """Turn what kr8s raises over a kubeconfig, or over the program that it names for the sign-in, into one of ours."""
    try:
        yield
    except kr8s.ServerError as error:
        raise Unreachable(f"Kubernetes does not let you in: {error}") from error
    except FileNotFoundError as error:
        missing = error.filename or error
        raise Unreachable(f"no way to Kubernetes: {missing} is not there, which the kubeconfig names") from error
    except (httpx.TransportError, kr8s.APITimeoutError, OSError) as error:
        raise Unreachable(f"Kubernetes does not answer: {error}") from error
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        raise Unreachable(f"no way to Kubernetes: {error}; is there a kubeconfig, or a ServiceAccount?") from error


async def _sign_in_tidily(api: Any, chosen: Callable[[], Awaitable[dict[str, Any] | None]]) -> None:
    """Remove the files into which kr8s copies a kubeconfig's certificates and keys, now and at each later sign-in.

    It loads them into an SSL context and never needs them again, but leaves them behind. And it closes the session that
    it had, with all port-forwards: here they last until who uses them has done. Then ``chosen`` is read anew.
    """
    auth = api.auth
    if "ssl_context" in vars(auth):  # of the same kubeconfig there is one for all
        return
    sign_in, load, begin = auth.reauthenticate, auth.ssl_context, api._create_session

    async def loaded() -> Any:
        try:
            return await load()
        finally:
            for copy in _copies(auth):
                copy.unlink(missing_ok=True)

    context = await loaded()

    async def reauthenticate() -> None:
        nonlocal context
        with _signing_in():
            if (found := await chosen()) is not None:
                auth._kubeconfig_path_or_dict = found
            await sign_in()
            context = await loaded()

    async def ssl_context() -> Any:
        return context

    async def create_session() -> None:
        api._session = None
        await begin()

    auth.reauthenticate, auth.ssl_context, api._create_session = reauthenticate, ssl_context, create_session


def _copies(auth: Any) -> list[Path]:
    """Files that kr8s made; what a kubeconfig names itself is the user's."""
    files = (
        (auth.client_key_file, auth._user, "client-key-data"),
        (auth.client_cert_file, auth._user, "client-certificate-data"),
        (auth.server_ca_file, auth._cluster, "certificate-authority-data"),
    )
    found = [Path(str(file)) for file, section, key in files if file and key in section]
    return [file for file in found if file.parent == Path(tempfile.gettempdir())]


def _own_namespace(api: Any) -> str:
    """That of the Pod, where its ServiceAccount is who asks; kr8s takes ``default`` instead. Else empty."""
    with contextlib.suppress(OSError):
        if not api.auth.active_context:  # no kubeconfig was read
            return _POD_NAMESPACE.read_text().strip()
    return ""


def _server(kubeconfig: dict[str, Any] | None) -> str:
    """URL of the API server that will be asked."""
    stated = kubeconfig["clusters"][0]["cluster"].get("server") if kubeconfig else None
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    return str(stated or f"https://{f'[{host}]' if ':' in host else host}")


class _Missing(Exception):
    """What the API server does not have."""


def _words(answer: httpx.Response) -> str:
    """What the API server says of a failure."""
    with contextlib.suppress(ValueError, KeyError, TypeError):  # no JSON, or no Status
        return str(answer.json()["message"])
    return answer.text or f"HTTP status {answer.status_code}"


@contextlib.contextmanager
def _told(verb: str, resource: str, namespace: str, name: str = "") -> Any:
    """Turn what kr8s raises into errors of ours."""
    try:
        yield
    except kr8s.ServerError as error:
        status = error.response.status_code if error.response is not None else 500
        if status == 404:
            raise _Missing from error
        raise refusal(status, str(error), verb=verb, resource=resource, namespace=namespace, name=name) from error
    except (httpx.TransportError, kr8s.APITimeoutError, OSError) as error:
        raise Unreachable(f"Kubernetes does not answer: {error}") from error


def _resource(kind: str, subresource: str = "") -> str:
    row = _ROWS[kind]
    plural = f"{row.plural}.{row.group}" if row.group else row.plural
    return f"{plural}/{subresource}" if subresource else plural
