"""Metrics for those alone who may read them: real tokens, reviewed by a real API server (security finding 15)."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
import yaml
from tests.cluster import ControlPlane
from tests.cluster.pki import Authority
from tests.cluster.processes import free_port
from tests.e2e.support import Kubectl, eventually
from tests.support.controller import Controller

from dask_constructs import rbac
from dask_controller.kube import access, small_http
from dask_controller.kube.access import Access, Certificate
from dask_controller.kube.client import Kubernetes
from dask_controller.kube.metrics import Metrics, serve, serve_secured
from dask_controller.kube.small_http import Secure
from dask_controller.shell.caller import OPERATOR

pytestmark = pytest.mark.control_plane

#: Seconds in which whatever is expected should have happened on a busy machine too.
PATIENCE = 20.0
#: More than the buffers of both ends hold.
LARGE = 32 * 2**20


def account(kubectl: Kubectl, name: str, rules: list[dict]) -> str:
    """A ServiceAccount with a ClusterRole; its token."""
    kubectl("create", "serviceaccount", name)
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": rules}
    everywhere = f"{kubectl.namespace}-{name}"
    kubectl.apply({**role, "metadata": {"name": everywhere}})
    subject = f"--serviceaccount={kubectl.namespace}:{name}"
    kubectl("create", "clusterrolebinding", everywhere, f"--clusterrole={everywhere}", subject)
    rule = rules[-1]  # RBAC is itself a cache
    what = (rule.get("nonResourceURLs") or [f"{rule['resources'][0]}.{rule['apiGroups'][0]}".rstrip(".")])[0]
    may = ("auth", "can-i", rule["verbs"][0], what, f"--as=system:serviceaccount:{kubectl.namespace}:{name}")
    eventually(lambda: kubectl(*may).strip() == "yes")
    return kubectl("create", "token", name).strip()


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, kubectl: Kubectl, tmp_path: Path) -> Path:
    """Of the operator, as far as metrics are concerned: with what the construct grants for them, and nothing else."""
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": account(kubectl, "operator", rbac.rules(rbac.METRICS_ACCESS))}
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "tls")
    made.issue("tls", "metrics", hosts=["127.0.0.1"])
    return made


class Site:
    """The port of the metrics."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self.port = port
        self._tls = tls

    async def get(self, token: str | None, path: str = "/metrics") -> tuple[int, str]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"https://127.0.0.1:{self.port}{path}", ssl=self._tls) as answer,
        ):
            return answer.status, await answer.text()


@asynccontextmanager
async def secured(kubeconfig: Path, authority: Authority, *, seconds: float = 600.0) -> AsyncIterator[Site]:
    certificate = Certificate(authority.folder)
    renewing = asyncio.create_task(certificate.keep())
    trusted = ssl.create_default_context(cafile=authority.certificate)
    try:
        async with Kubernetes.from_environment(OPERATOR, str(kubeconfig)) as operator:
            secure = Secure(certificate.context, Access(operator))
            async with serve_secured(Metrics("x"), secure, port=0, host="127.0.0.1", seconds=seconds) as port:
                yield Site(port, trusted)
    finally:
        renewing.cancel()


async def test_metrics_are_for_whom_rbac_lets_get_them(kubeconfig, authority, kubectl):
    prometheus = account(kubectl, "prometheus", rbac.rules(rbac.METRICS_READER))
    stranger = account(kubectl, "stranger", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])
    async with secured(kubeconfig, authority) as site:
        for _ in range(2):  # the second time it is known
            status, text = await site.get(prometheus)
            assert (status, "process_resident_memory_bytes" in text) == (200, True)
        assert await site.get(stranger) == (403, "Forbidden")
        assert await site.get("made-up") == (401, "Unauthorized")
        assert await site.get(None) == (401, "Unauthorized")
        assert (await site.get(prometheus, "/healthz"))[0] == 404


async def test_the_process_serves_them_so(control_plane, kubectl, authority):
    prometheus = account(kubectl, "prometheus", rbac.rules(rbac.METRICS_READER))
    port = free_port()
    where = ("--metrics-tls", str(authority.folder), "--metrics-port", str(port))
    controller = Controller(control_plane, kubectl.namespace, *where)
    try:
        site = Site(port, ssl.create_default_context(cafile=authority.certificate))
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(aiohttp.ClientConnectionError):
                    assert (await site.get(None))[0] == 401
                    break
                await asyncio.sleep(0.2)
        assert "leader_election_master_status 1.0" in (await site.get(prometheus))[1]
    finally:
        controller.kill()


def test_the_process_says_that_it_has_no_certificate(control_plane, namespace, tmp_path):
    log = Controller(control_plane, namespace, "--metrics-tls", str(tmp_path)).ended()
    assert f"--metrics-tls: {tmp_path} must have tls.crt and tls.key" in log


async def test_probes_stay_open_and_plain_and_show_no_metrics() -> None:
    shown = serve(Metrics("x"), healthy=lambda: None, ready=lambda: None, port=0, host="127.0.0.1", elsewhere=True)
    async with shown as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for path, status in {"/healthz": 200, "/readyz": 200, "/metrics": 404}.items():
            async with session.get(path) as answer:
                assert answer.status == status


async def test_an_api_server_that_does_not_say_lets_nobody_in_who_was_not(kubeconfig, authority, kubectl):
    prometheus = account(kubectl, "prometheus", rbac.rules(rbac.METRICS_READER))
    async with secured(kubeconfig, authority) as site:
        assert (await site.get(prometheus))[0] == 200
        kubectl("delete", "clusterrolebinding", f"{kubectl.namespace}-operator")
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while (await site.get("made-up"))[0] != 503:  # RBAC is itself a cache
            assert asyncio.get_running_loop().time() < deadline
        assert (await site.get(prometheus))[0] == 200


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"])
async def test_who_never_ends_the_handshake_takes_no_place(sent, kubeconfig, authority, kubectl):
    """As many as there are: a server's own TLS counts nobody until the handshake is done."""
    prometheus = account(kubectl, "prometheus", rbac.rules(rbac.METRICS_READER))
    async with secured(kubeconfig, authority) as site:
        held = []
        for _ in range(small_http.CONNECTIONS + 100):
            held.append(await asyncio.open_connection("127.0.0.1", site.port))
            held[-1][1].write(sent)
        try:
            async with asyncio.timeout(PATIENCE):
                with suppress(ConnectionError):
                    await held[0][0].read()
                assert (await site.get(prometheus))[0] == 200
        finally:
            for _, writer in held:
                writer.transport.abort()


async def test_a_slow_handshake_and_what_is_no_tls_are_closed(kubeconfig, authority, caplog):
    async with secured(kubeconfig, authority, seconds=0.5) as site, asyncio.timeout(PATIENCE):
        for sent in (b"", b"GET /metrics HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(sent)
            with suppress(ConnectionError):
                assert b"process_" not in await reader.read()
            writer.transport.abort()
    assert caplog.text == ""


async def test_a_large_body_is_not_read_while_it_is_found_out_who_asks(authority):
    """The API server may take its time, and more than two do not ask it at once."""
    asked = asyncio.Event()

    async def undecided(*_: str) -> HTTPStatus:
        asked.set()
        await asyncio.Event().wait()
        return HTTPStatus.OK

    secure = Secure(Certificate(authority.folder).context, undecided)
    trusted = ssl.create_default_context(cafile=authority.certificate)
    async with serve_secured(Metrics("x"), secure, port=0, host="127.0.0.1", seconds=600.0) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        await asked.wait()  # what comes with the request is a larger request, which is refused
        sent = 0
        with suppress(TimeoutError):
            while sent < LARGE:
                writer.write(bytes(2**20))
                async with asyncio.timeout(3):
                    await writer.drain()
                sent += 2**20
        writer.transport.abort()
    assert sent < LARGE


async def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(kubeconfig, authority, monkeypatch, caplog):
    monkeypatch.setattr(access, "LOOK_SECONDS", 0.05)
    async with secured(kubeconfig, authority) as site:

        async def serial() -> str:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", site.port, ssl=ssl.create_default_context(cafile=authority.certificate)
            )
            certificate = writer.get_extra_info("peercert")
            writer.transport.abort()
            return certificate["serialNumber"]

        before = await serial()
        (authority.folder / "tls.key").write_text("broken")
        async with asyncio.timeout(PATIENCE):
            while "cannot be used" not in caplog.text:
                await asyncio.sleep(0.05)
            assert await serial() == before
            authority.issue("tls", "metrics", hosts=["127.0.0.1"])
            while await serial() == before:
                await asyncio.sleep(0.05)
