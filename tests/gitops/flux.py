"""Real Flux beside a control plane."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster import ControlPlane, components
from tests.cluster.processes import free_port
from tests.e2e.support import Kubectl, eventually

from .git import Repository
from .tool import resource


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
        kubectl.apply(resource("source.toolkit.fluxcd.io/v1", "GitRepository", name, spec=source))
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
        kubectl.apply(resource("kustomize.toolkit.fluxcd.io/v1", "Kustomization", name, spec=applied))
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
