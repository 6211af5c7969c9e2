from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.pki import Authority

from dask_controller.kube import credentials
from dask_controller.kube.credentials import ConfigError, Endpoint, TokenFile, find, from_kubeconfig, in_cluster


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``ca.crt``, ``tls.crt`` and ``tls.key``."""
    authority = Authority(tmp_path_factory.mktemp("pki"))
    authority.issue("tls", "test")
    return authority.folder


def kubeconfig(folder: Path, *, user: dict[str, Any], cluster: dict[str, Any] | None = None, name: str = "x") -> Path:
    path = folder / "config"
    document = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:6443/", **(cluster or {})}}],
        "users": [{"name": name, "user": user}],
    }
    path.write_text(json.dumps(document))
    return path


def header(endpoint: Endpoint, *, rejected: bool = False) -> str | None:
    async def ask() -> str | None:
        return await endpoint.authorization(rejected=rejected)

    return asyncio.run(ask())


# --- in a Pod ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "server"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
def test_a_pod_knows_its_server_and_its_token(pki: Path, tmp_path: Path, host: str, server: str) -> None:
    (tmp_path / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())
    (tmp_path / "token").write_text("t0\n")
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    endpoint = in_cluster(tmp_path, environment)
    assert endpoint.server == server
    assert header(endpoint) == "Bearer t0"
    assert endpoint.tls.verify_mode == ssl.CERT_REQUIRED
    assert endpoint.tls.check_hostname
    assert len(endpoint.tls.get_ca_certs()) == 1, "only the cluster's own authority is trusted"


def test_a_pod_without_a_token_says_so(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        in_cluster(tmp_path, environment)


async def test_a_token_file_is_read_again_after_a_minute_or_when_it_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("dask_controller.kube.credentials.time.monotonic", lambda: clock[0])
    path = tmp_path / "token"
    path.write_text("one")
    token = TokenFile(path)
    assert await token() == "Bearer one"
    path.write_text("two")
    assert await token() == "Bearer one"
    assert await token(rejected=True) == "Bearer two"
    path.write_text("three")
    clock[0] += credentials.TOKEN_SECONDS + 1
    assert await token() == "Bearer three"
    path.unlink()
    with pytest.raises(ConfigError, match="cannot read"):
        await token(rejected=True)


# --- kubeconfig -------------------------------------------------------------------------------------------------------


def test_certificates_by_paths_relative_to_the_file(pki: Path) -> None:
    user = {"client-certificate": "tls.crt", "client-key": "tls.key"}
    endpoint = from_kubeconfig([kubeconfig(pki, user=user, cluster={"certificate-authority": "ca.crt"})])
    assert endpoint.server == "https://x:6443"
    assert header(endpoint) is None
    assert len(endpoint.tls.get_ca_certs()) == 1


def test_certificates_as_data(pki: Path, tmp_path: Path) -> None:
    authority, certificate, key = (
        base64.b64encode((pki / name).read_bytes()).decode() for name in ("ca.crt", "tls.crt", "tls.key")
    )
    user = {"client-certificate-data": certificate, "client-key-data": key}
    cluster = {
        "certificate-authority-data": authority,
        "tls-server-name": "kubernetes",
        "proxy-url": "http://proxy:1",
    }
    endpoint = from_kubeconfig([kubeconfig(tmp_path, user=user, cluster=cluster)])
    assert len(endpoint.tls.get_ca_certs()) == 1
    assert endpoint.server_name == "kubernetes"
    assert endpoint.proxy == "http://proxy:1"


def test_a_broken_certificate_is_an_error_without_its_content(tmp_path: Path) -> None:
    user = {"client-certificate-data": "c2VjcmV0", "client-key-data": "c2VjcmV0"}
    with pytest.raises(ConfigError, match="certificates") as caught:
        from_kubeconfig([kubeconfig(tmp_path, user=user)])
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"token": "t"}, "Bearer t"),
        ({"username": "me", "password": "pw"}, "Basic " + base64.b64encode(b"me:pw").decode()),
        ({"tokenFile": "token"}, "Bearer from-file"),
        ({}, None),
    ],
)
def test_identities(tmp_path: Path, user: dict[str, Any], expected: str | None) -> None:
    (tmp_path / "token").write_text("from-file")
    assert header(from_kubeconfig([kubeconfig(tmp_path, user=user)])) == expected


def test_verification_can_be_switched_off(tmp_path: Path) -> None:
    endpoint = from_kubeconfig([kubeconfig(tmp_path, user={}, cluster={"insecure-skip-tls-verify": True})])
    assert endpoint.tls.verify_mode == ssl.CERT_NONE


def plugin(tmp_path: Path, **status: str) -> dict[str, Any]:
    """A credential plugin that numbers its tokens."""
    program = f"""
import json, os, pathlib
assert json.loads(os.environ["KUBERNETES_EXEC_INFO"])["kind"] == "ExecCredential"
count = pathlib.Path({str(tmp_path / "count")!r})
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
status = dict({status!r}, token=os.environ["PREFIX"] + str(number))
print(json.dumps({{"kind": "ExecCredential", "status": status}}))
"""
    version = "client.authentication.k8s.io/v1"
    env = [{"name": "PREFIX", "value": "t"}]
    return {"exec": {"apiVersion": version, "command": sys.executable, "args": ["-c", program], "env": env}}


def test_a_credential_plugin_is_asked_once_and_again_when_its_token_is_rejected(tmp_path: Path) -> None:
    endpoint = from_kubeconfig([kubeconfig(tmp_path, user=plugin(tmp_path))])

    async def ask() -> list[str | None]:
        together = await asyncio.gather(endpoint.authorization(), endpoint.authorization())
        return [*together, await endpoint.authorization(rejected=True)]

    assert asyncio.run(ask()) == ["Bearer t1", "Bearer t1", "Bearer t2"]


def test_a_credential_plugin_is_asked_again_before_its_token_expires(tmp_path: Path) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=credentials.TOKEN_SECONDS / 2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    endpoint = from_kubeconfig([kubeconfig(tmp_path, user=plugin(tmp_path, expirationTimestamp=soon))])
    assert [header(endpoint), header(endpoint)] == ["Bearer t1", "Bearer t2"]


@pytest.mark.parametrize("command", ["no-such-program", "false", "true"])
def test_a_credential_plugin_that_fails_is_an_error(tmp_path: Path, command: str) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command}}
    endpoint = from_kubeconfig([kubeconfig(tmp_path, user=user)])
    with pytest.raises(ConfigError, match=command):
        header(endpoint)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"auth-provider": {"name": "gcp"}}, "auth-provider"),
        ({"exec": {"command": "x", "provideClusterInfo": True}}, "provideClusterInfo"),
    ],
)
def test_what_is_not_supported_is_said(tmp_path: Path, user: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_kubeconfig([kubeconfig(tmp_path, user=user)])


def test_of_several_files_the_first_wins_and_a_context_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = kubeconfig(tmp_path / "one", user={"token": "1"}, name="one")
    two = kubeconfig(tmp_path / "two", user={"token": "2"}, name="two")
    assert from_kubeconfig([one, two]).server == "https://one:6443"
    assert from_kubeconfig([two, one]).server == "https://two:6443"
    assert from_kubeconfig([one, two], "two").server == "https://two:6443"
    with pytest.raises(ConfigError, match="no context 'three'"):
        from_kubeconfig([one, two], "three")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        from_kubeconfig([tmp_path / "missing"])
    (tmp_path / "broken").write_text("{")
    with pytest.raises(ConfigError, match="cannot read"):
        from_kubeconfig([tmp_path / "broken"])


def test_where_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="no kubeconfig"):
        find()
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube", user={}, name="home")
    assert find().server == "https://home:6443"
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "other", user={}, name="variable")))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert find().server == "https://variable:6443"
    assert find(str(tmp_path / ".kube" / "config")).server == "https://home:6443"
