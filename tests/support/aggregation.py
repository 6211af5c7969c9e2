"""An API of the API server's that another process, or the test itself, serves: API aggregation."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.cluster import ControlPlane


@contextmanager
def aggregated(plane: ControlPlane, group: str, version: str, *, port: int) -> Iterator[None]:
    """Have ``group/version`` served by what listens at ``port`` on this machine; gone afterwards."""
    service = {"namespace": "kube-system", "name": group.replace(".", "-")}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": service,
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{version}.{group}"},
            "spec": {
                "group": group,
                "version": version,
                "service": {**service, "port": port},
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    try:
        plane.kubectl("apply", "-f", "-", input=manifest)
        plane.kubectl("wait", "apiservice", f"{version}.{group}", "--for=condition=Available", "--timeout=90s")
        yield
    finally:
        plane.kubectl("delete", "-f", "-", "--ignore-not-found", input=manifest)


@contextmanager
def served(plane: ControlPlane, group: str, version: str, answer: Callable[[str], dict[str, Any]]) -> Iterator[None]:
    """Serve ``group/version`` here, each GET by ``answer``, which is given the URL; gone afterwards."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    plane.pki.issue(group, group, hosts=["localhost"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(plane.pki.folder / f"{group}.crt", plane.pki.folder / f"{group}.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with aggregated(plane, group, version, port=server.server_address[1]):
                yield
        finally:
            server.shutdown()
