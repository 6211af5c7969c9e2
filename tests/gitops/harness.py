"""Real Argo CD and real Flux beside a control plane, and a Git server for both."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import yaml
from tests.cluster import ControlPlane, components
from tests.cluster.processes import free_port
from tests.e2e.support import Kubectl, eventually

Manifest = Mapping[str, Any]


def start_operator(plane: ControlPlane) -> None:
    """Our operator as a process, for every namespace."""
    command = [sys.executable, "-m", "dask_controller", "run", "--all-namespaces", "--port", "0"]
    plane.processes.start("operator", *command, env={"KUBECONFIG": str(plane.kubeconfig)})


# --- Git --------------------------------------------------------------------------------------------------------------


class GitServer:
    """Bare repositories over smart HTTP on localhost; a context manager.

    Args:
        folder: where the repositories are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def __enter__(self) -> GitServer:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_GitHandler,), {"folder": self.folder}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _GitHandler(BaseHTTPRequestHandler):
    """``git http-backend`` is a CGI program."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        body = self._body()
        environment["CONTENT_LENGTH"] = str(len(body))
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=os.environ | environment, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        pass


class Repository:
    """A repository on the server, and a clone of it that somebody commits to."""

    def __init__(self, server: GitServer, name: str) -> None:
        self.url = f"{server.url}/{name}.git"
        self._clone = server.folder / name
        self._git("init", "--quiet", "--bare", "--initial-branch=main", f"{name}.git", folder=server.folder)
        self._git("clone", "--quiet", f"{name}.git", name, folder=server.folder)

    def commit(self, files: Mapping[str, Manifest | None]) -> str:
        """Write manifests, by name of the file; ``None`` removes one. Returns the revision."""
        for name, manifest in files.items():
            path = self._clone / name
            path.unlink() if manifest is None else path.write_text(yaml.safe_dump(manifest))
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", ", ".join(files) or "nothing")
        return self._push()

    def revert(self) -> str:
        """Take the last commit back, by another one. Returns the revision."""
        self._git("revert", "--no-edit", "HEAD")
        return self._push()

    def _push(self) -> str:
        self._git("push", "--quiet", "origin", "HEAD:main")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str, folder: Path | None = None) -> str:
        identity = {
            f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        return subprocess.run(
            ["git", *arguments],
            cwd=folder or self._clone,
            env=os.environ | identity | {"GIT_CONFIG_GLOBAL": os.devnull},
            check=True,
            capture_output=True,
            text=True,
        ).stdout


# --- what both tools can do -------------------------------------------------------------------------------------------


class Application(Protocol):
    """A folder of a repository that a tool applies to a namespace."""

    def sync(self, revision: str, *, seconds: float = 120) -> None:
        """Wait until the revision is applied, after asking for it."""

    def health(self) -> tuple[str, str]:
        """``Healthy``, ``Progressing``, ``Degraded`` ..., and why."""

    def drift(self) -> list[str]:
        """Resources that are not as Git says."""

    def resync(self) -> None:
        """Apply once more what is applied already, and wait for the end of it."""

    def refresh(self) -> None:
        """Look at Git now."""

    def forget(self) -> None:
        """Leave everything as it is from now on."""


class Tool(Protocol):
    """Argo CD or Flux."""

    def application(self, name: str, namespace: str, repository: Repository, *, wait: bool = True) -> Application:
        """Apply a repository to a namespace from now on, prune and heal.

        Args:
            name: of the application.
            namespace: where to.
            repository: what.
            wait: whether applying includes the wait for health, with a tool that can do that.
        """


# --- Argo CD ----------------------------------------------------------------------------------------------------------

ARGO_NAMESPACE = "argocd"


class ArgoCD:
    """Repo-server, application-controller and their Redis, as processes outside of the cluster.

    Args:
        plane: the control plane that it runs beside and deploys to.
        settings: in ``argocd-cm`` from the start.

    Raises:
        components.Unavailable: it cannot be built or its packages are missing.
    """

    def __init__(self, plane: ControlPlane, settings: Mapping[str, str]) -> None:
        program = components.ensure(components.ARGO_CD)["argocd"]
        if not shutil.which("redis-server"):
            components.ensure_packages(components.ARGO_CD_PACKAGES)
        self._plane = plane
        self._settings = dict(settings)
        self._kubectl = Kubectl(plane.kubectl, ARGO_NAMESPACE)
        self._folder = plane.folder / "argocd"
        self._folder.mkdir()
        # The same program is every component, by the name that it is called under.
        for name in ("argocd-repo-server", "argocd-application-controller", "argocd-server", "argocd-git-ask-pass"):
            (self._folder / name).symlink_to(program)
        signatures = self._folder / "git-verify-wrapper.sh"  # asked about every commit, though none is signed
        signatures.write_text("#!/bin/sh\n")
        signatures.chmod(0o755)
        redis = self._folder / "redis-server"
        redis.symlink_to(shutil.which("redis-server") or components.ARGO_CD_PACKAGES["redis-tools"])
        plane.install_crds(components.crds("argocd"))
        plane.kubectl("create", "namespace", ARGO_NAMESPACE)
        for manifest in self._configuration():
            self._kubectl.apply(manifest)
        self._start()

    def track_by(self, method: str) -> None:
        """How resources are known to belong to an application: ``annotation`` or ``label``."""
        patch = {"data": {"application.resourceTrackingMethod": method}}
        self._kubectl("patch", "configmap", "argocd-cm", "--type=merge", "-p", json.dumps(patch))

    def application(self, name: str, namespace: str, repository: Repository, *, wait: bool = True) -> ArgoApplication:
        spec = {
            "project": "default",
            "source": {"repoURL": repository.url, "path": ".", "targetRevision": "main"},
            "destination": {"server": self._server, "namespace": namespace},
            "syncPolicy": {"automated": {"prune": True, "selfHeal": True, "allowEmpty": True}},
        }
        self._kubectl.apply(_resource("argoproj.io/v1alpha1", "Application", name, spec=spec))
        return ArgoApplication(self._kubectl, name)

    @property
    def _server(self) -> str:
        return f"https://127.0.0.1:{self._plane.port}"

    def _configuration(self) -> list[dict[str, Any]]:
        parts = {"app.kubernetes.io/part-of": "argocd"}
        data = {"argocd-cm": self._settings}
        names = ("cm", "cmd-params-cm", "rbac-cm", "ssh-known-hosts-cm", "tls-certs-cm", "gpg-keys-cm")
        maps = [
            _resource("v1", "ConfigMap", f"argocd-{name}", labels=parts, data=data.get(f"argocd-{name}", {}))
            for name in names
        ]
        pki = self._plane.pki.folder
        files = {"caData": "ca.crt", "certData": "admin.crt", "keyData": "admin.key"}
        access = {key: base64.b64encode((pki / file).read_bytes()).decode() for key, file in files.items()}
        cluster = {"name": "test", "server": self._server, "config": json.dumps({"tlsClientConfig": access})}
        kind = {"argocd.argoproj.io/secret-type": "cluster"}
        everything = [{"group": "*", "kind": "*"}]
        project = {
            "sourceRepos": ["*"],
            "destinations": [{"server": "*", "namespace": "*"}],
            "clusterResourceWhitelist": everything,
            "orphanedResources": {"warn": True},
        }
        return [
            *maps,
            _resource("v1", "Secret", "argocd-secret", labels=parts, stringData={"server.secretkey": "none"}),
            _resource("v1", "Secret", "cluster", labels=kind, stringData=cluster),
            _resource("argoproj.io/v1alpha1", "AppProject", "default", spec=project),
        ]

    def _start(self) -> None:
        redis, repository = (f"127.0.0.1:{free_port()}" for _ in range(2))
        temporary = self._folder / "tmp"
        temporary.mkdir()
        self._environment = environment = {
            "KUBECONFIG": str(self._plane.kubeconfig),
            "PATH": f"{self._folder}:{os.environ['PATH']}",
            "TMPDIR": str(temporary),
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_ASK_PASS_SOCK": str(self._folder / "ask-pass.sock"),  # one for the whole machine otherwise
            "ARGOCD_TLS_DATA_PATH": str(self._folder),
            "ARGOCD_SSH_DATA_PATH": str(self._folder),
        }
        start = self._plane.processes.start
        host, _, port = redis.partition(":")
        start("redis", self._folder / "redis-server", *("--bind", host, "--port", port, "--save", ""))
        start(
            "argocd-repo-server",
            self._folder / "argocd-repo-server",
            *("--redis", redis, "--address", host, "--port", repository.rpartition(":")[2]),
            *("--metrics-address", host, "--metrics-port", str(free_port())),
            *("--disable-tls", "--client-ca-path=", "--logformat", "json"),
            env=environment,
        )
        start(
            "argocd-application-controller",
            self._folder / "argocd-application-controller",
            *("--namespace", ARGO_NAMESPACE, "--redis", redis),
            *("--repo-server", repository, "--repo-server-plaintext", "--metrics-port", str(free_port())),
            *("--app-resync", "3600", "--app-hard-resync", "0", "--self-heal-timeout-seconds", "2"),
            *("--status-processors", "2", "--operation-processors", "2", "--logformat", "json"),
            "--persist-resource-health",  # else the reasons are in Redis only
            env=environment,
        )
        self._others = ["--namespace", ARGO_NAMESPACE, "--redis", redis, "--repo-server", repository]

    def server(self) -> ArgoServer:
        """Its API server, started now."""
        host, port = "127.0.0.1", free_port()
        self._plane.processes.start(
            "argocd-server",
            self._folder / "argocd-server",
            *("--insecure", "--address", host, "--port", str(port), "--metrics-port", str(free_port())),
            *(*self._others, "--repo-server-plaintext", "--logformat", "json"),
            env=self._environment,
        )
        server = ArgoServer(f"http://{host}:{port}/api")
        self._plane.wait(server.is_up, "argocd-server")
        initial = self._kubectl.json("get", "secret", "argocd-initial-admin-secret")["data"]["password"]
        server.log_in("admin", base64.b64decode(initial).decode())
        return server


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


class ArgoApplication:
    """An Application of Argo CD."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self._kubectl = kubectl
        self._name = name

    def sync(self, revision: str, *, seconds: float = 120) -> None:
        def applied() -> bool:
            status = self.status()
            compared = status.get("sync", {})
            if compared.get("status") == "Synced" and compared.get("revision") == revision:
                return True
            # Asked again: the commit may have come after Argo CD has looked at the repository.
            if "argocd.argoproj.io/refresh" not in self._annotations():
                self.refresh()
            return False

        try:
            eventually(applied, seconds=seconds)
        except AssertionError:
            raise AssertionError(json.dumps(self.status(), indent=1)) from None

    def resync(self) -> None:
        """Sync once more what is synced already, as the button in the user interface does."""
        # Times have seconds only, so a mark tells this sync from the last one.
        mark = [{"name": "test", "value": secrets.token_hex(4)}]
        operation = {"operation": {"initiatedBy": {"username": "test"}, "info": mark, "sync": {"prune": True}}}

        def done() -> bool:
            found = self._kubectl.json("get", "application", self._name)
            state = found["status"].get("operationState", {})
            if state.get("operation", {}).get("info") == mark:
                return state["phase"] == "Succeeded"
            if "operation" not in found:  # the first time, or Argo CD has put a sync of its own in its place
                self._kubectl("patch", "application", self._name, "--type=merge", "-p", json.dumps(operation))
            return False

        eventually(done)

    def refresh(self) -> None:
        """Look at Git now, instead of three minutes later."""
        self._kubectl("annotate", "application", self._name, "argocd.argoproj.io/refresh=normal", "--overwrite")

    def forget(self) -> None:
        self._kubectl("delete", "application", self._name)

    def health(self) -> tuple[str, str]:
        status = self.status()
        messages = [r["health"].get("message", "") for r in status.get("resources", []) if "health" in r]
        return status.get("health", {}).get("status", "Missing"), "; ".join(filter(None, messages))

    def drift(self) -> list[str]:
        return [
            f"{r['kind']}/{r['name']}: {r['status']}{', to be pruned' if r.get('requiresPruning') else ''}"
            for r in self.status().get("resources", [])
            if r.get("status") != "Synced" or r.get("requiresPruning")
        ]

    def status(self) -> dict[str, Any]:
        return self._kubectl.status("application", self._name)

    def _annotations(self) -> dict[str, str]:
        return self._kubectl.json("get", "application", self._name)["metadata"].get("annotations") or {}


# --- Flux -------------------------------------------------------------------------------------------------------------


class Flux:
    """Source-controller and kustomize-controller, as processes outside of the cluster.

    Args:
        plane: the control plane that they run beside and deploy to.

    Raises:
        components.Unavailable: they cannot be built.
    """

    def __init__(self, plane: ControlPlane) -> None:
        programs = components.ensure(components.FLUX)
        self._plane = plane
        plane.install_crds(*map(components.crds, programs))
        plane.kubectl("create", "namespace", "flux-system")
        storage = plane.folder / "flux"
        storage.mkdir()
        address = f"127.0.0.1:{free_port()}"
        more = {
            "source-controller": [
                *("--storage-path", storage, "--storage-addr", address, "--storage-adv-addr", address)
            ],
            "kustomize-controller": ["--requeue-dependency=1s"],
        }
        for name, program in programs.items():
            plane.processes.start(
                name,
                program,
                *("--metrics-addr", f"127.0.0.1:{free_port()}", "--health-addr", f"127.0.0.1:{free_port()}"),
                *("--enable-leader-election=false", *more[name]),
                env={"KUBECONFIG": str(plane.kubeconfig), "RUNTIME_NAMESPACE": "flux-system", "TMPDIR": str(storage)},
            )

    def application(self, name: str, namespace: str, repository: Repository, *, wait: bool = True) -> FluxApplication:
        kubectl = Kubectl(self._plane.kubectl, namespace)
        source = {"interval": "1h", "url": repository.url, "ref": {"branch": "main"}}
        kubectl.apply(_resource("source.toolkit.fluxcd.io/v1", "GitRepository", name, spec=source))
        applied = {
            "interval": "1h",
            "retryInterval": "5s",
            "timeout": "60s",
            "sourceRef": {"kind": "GitRepository", "name": name},
            "path": "./",
            "prune": True,
            "wait": wait,
            "targetNamespace": namespace,
        }
        kubectl.apply(_resource("kustomize.toolkit.fluxcd.io/v1", "Kustomization", name, spec=applied))
        return FluxApplication(kubectl, name)


class FluxApplication:
    """A Kustomization of Flux and its GitRepository."""

    _requests = 0

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self._kubectl = kubectl
        self._name = name

    def sync(self, revision: str, *, seconds: float = 120) -> None:
        def applied() -> bool:
            status = self.status()
            return revision in status.get("lastAppliedRevision", "") and self.health()[0] == "Healthy"

        try:
            eventually(applied, seconds=seconds)
        except AssertionError:
            raise AssertionError(json.dumps(self.status(), indent=1)) from None

    def resync(self) -> None:
        """Apply once more what is applied already, as ``flux reconcile kustomization`` does."""
        request = self._ask("kustomization")
        eventually(lambda: self.status().get("lastHandledReconcileAt") == request and self.health()[0] == "Healthy")

    def refresh(self) -> None:
        """Look at Git now."""
        self._ask("gitrepository")

    def forget(self) -> None:
        patch = {"spec": {"deletionPolicy": "Orphan"}}
        self._kubectl("patch", "kustomization", self._name, "--type=merge", "-p", json.dumps(patch))
        self._kubectl("delete", "kustomization", self._name, "--wait=false")

    def health(self) -> tuple[str, str]:
        conditions = {c["type"]: c for c in self.status().get("conditions", [])}
        ready = conditions.get("Ready", {})
        state = {"True": "Healthy", "False": "Degraded"}.get(ready.get("status", ""), "Progressing")
        return state, ready.get("message", "")

    def drift(self) -> list[str]:
        """What applying once more has changed, as Flux' events tell; so this applies once more."""
        before = {event["metadata"]["uid"]: event.get("count") for event in self._events()}
        self.resync()
        new = [e for e in self._events() if before.get(e["metadata"]["uid"], 0) != e.get("count")]
        return [line for event in new for line in event["message"].splitlines() if line.endswith("configured")]

    def _events(self) -> list[dict[str, Any]]:
        selector = f"involvedObject.kind=Kustomization,involvedObject.name={self._name}"
        return self._kubectl.json("get", "events", f"--field-selector={selector}")["items"]

    def status(self) -> dict[str, Any]:
        return self._kubectl.status("kustomization", self._name)

    def _ask(self, kind: str) -> str:
        FluxApplication._requests += 1
        request = str(self._requests)
        self._kubectl("annotate", kind, self._name, f"reconcile.fluxcd.io/requestedAt={request}", "--overwrite")
        return request


def _resource(api_version: str, kind: str, name: str, labels: Mapping[str, str] | None = None, **rest: Any) -> Any:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": labels or {}}, **rest}
