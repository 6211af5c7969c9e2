"""Real Argo CD beside a control plane."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from typing import Any

from tests.cluster import ControlPlane, components
from tests.cluster.processes import free_port
from tests.e2e.support import Kubectl, eventually

from .argocd_server import ArgoServer
from .git import Repository
from .tool import resource

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
        self._kubectl.apply(resource("argoproj.io/v1alpha1", "Application", name, spec=spec))
        return ArgoApplication(self._kubectl, name)

    @property
    def _server(self) -> str:
        return f"https://127.0.0.1:{self._plane.port}"

    def _configuration(self) -> list[dict[str, Any]]:
        parts = {"app.kubernetes.io/part-of": "argocd"}
        data = {"argocd-cm": self._settings}
        names = ("cm", "cmd-params-cm", "rbac-cm", "ssh-known-hosts-cm", "tls-certs-cm", "gpg-keys-cm")
        maps = [
            resource("v1", "ConfigMap", f"argocd-{name}", labels=parts, data=data.get(f"argocd-{name}", {}))
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
            resource("v1", "Secret", "argocd-secret", labels=parts, stringData={"server.secretkey": "none"}),
            resource("v1", "Secret", "cluster", labels=kind, stringData=cluster),
            resource("argoproj.io/v1alpha1", "AppProject", "default", spec=project),
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
        policy = self._kubectl.json("get", "application", self._name)["spec"]["syncPolicy"]
        sync = {"prune": True, "syncOptions": policy.get("syncOptions", [])}  # Argo CD's API server adds these
        operation = {"operation": {"initiatedBy": {"username": "test"}, "info": mark, "sync": sync}}

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
        self.refresh()  # what it says may be of before the last sync
        eventually(lambda: "argocd.argoproj.io/refresh" not in self._annotations())
        return [
            f"{r['kind']}/{r['name']}: {r['status']}{', to be pruned' if r.get('requiresPruning') else ''}"
            for r in self.status().get("resources", [])
            if r.get("status") != "Synced" or r.get("requiresPruning")
        ]

    def status(self) -> dict[str, Any]:
        return self._kubectl.status("application", self._name)

    def _annotations(self) -> dict[str, str]:
        return self._kubectl.json("get", "application", self._name)["metadata"].get("annotations") or {}
