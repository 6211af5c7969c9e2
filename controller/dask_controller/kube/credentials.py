"""Where the API server is and who we are to it: a Pod's service account, or a kubeconfig.

Neither kopf's ``login_with_*`` (no named context, no relative paths, token read once, server name by DNS only) nor a
client library (tens of MB) would be shorter; see docs/decisions/0002-kubernetes-client.md.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

#: Seconds for which a token file's content is used. Kubelet renews a token minutes before it expires, never later.
TOKEN_SECONDS = 60.0
#: Seconds that a credential plugin may take.
PLUGIN_SECONDS = 60.0


class ConfigError(Exception):
    """The configuration names no usable API server or identity; the message is for people and holds no secret."""


class Authorization(Protocol):
    """Gives the value of the ``Authorization`` header; ``None`` where a client certificate says who we are."""

    async def __call__(self, *, rejected: bool = False) -> str | None:
        """Args:
        rejected: the server answered 401 to the last value, so don't give it from memory.

        Raises:
            ConfigError: there is none.
        """


@dataclass(frozen=True)
class Endpoint:
    """All that is needed to open a connection."""

    server: str  #: base URL
    tls: ssl.SSLContext
    authorization: Authorization
    server_name: str | None = None  #: name to find in the server's certificate if it isn't the URL's
    proxy: str | None = None


def find(kubeconfig: str | None = None, context: str | None = None) -> Endpoint:
    """The endpoint, looked for in controller-runtime's order: argument, ``$KUBECONFIG``, service account, home.

    Args:
        kubeconfig: path, or several separated by ``os.pathsep``.
        context: name of a context of the kubeconfig, if not its current one.

    Raises:
        ConfigError: nothing usable was found.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG")
    if named:
        return from_kubeconfig([Path(path).expanduser() for path in named.split(os.pathsep) if path], context)
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return in_cluster()
    home = Path("~/.kube/config").expanduser()
    if home.exists():
        return from_kubeconfig([home], context)
    raise ConfigError("no kubeconfig is named, and this is no Pod with a service account")


def in_cluster(directory: Path = SERVICE_ACCOUNT, environment: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint of a Pod: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/."""
    try:
        host, port = environment["KUBERNETES_SERVICE_HOST"], environment["KUBERNETES_SERVICE_PORT"]
    except KeyError as error:
        raise ConfigError(f"{error.args[0]} is not set") from error
    if not (directory / "token").exists():
        raise ConfigError(f"{directory}/token is missing: does the Pod have automountServiceAccountToken?")
    host = f"[{host}]" if ":" in host else host
    return Endpoint(
        f"https://{host}:{port}",
        _tls({"certificate-authority": directory / "ca.crt"}, {}),
        TokenFile(directory / "token"),
    )


def from_kubeconfig(paths: Sequence[Path], context: str | None = None) -> Endpoint:
    """The endpoint of a context, the current one by default; of several files the first that says something wins."""
    merged: dict[str, dict[str, Any]] = {"context": {}, "cluster": {}, "user": {}}
    for path in paths:
        try:
            document = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"cannot read {path}: {type(error).__name__}") from None
        context = context or document.get("current-context")
        for section, entries in merged.items():
            for entry in document.get(f"{section}s") or []:
                entries.setdefault(entry["name"], _absolute(entry.get(section) or {}, path.parent))
    chosen = _entry(merged, "context", context)
    cluster, user = _entry(merged, "cluster", chosen.get("cluster")), _entry(merged, "user", chosen.get("user"))
    if not cluster.get("server"):
        raise ConfigError("the kubeconfig names no server")
    return Endpoint(
        cluster["server"].rstrip("/"),
        _tls(cluster, user),
        _authorization(user),
        cluster.get("tls-server-name"),
        cluster.get("proxy-url"),
    )


def _entry(merged: Mapping[str, Mapping[str, Any]], section: str, name: str | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = merged[section].get(name or "")
    if found is None:
        raise ConfigError(f"the kubeconfig has no {section} {name!r}")
    return found


def _absolute(entry: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Paths in a kubeconfig are relative to its folder."""
    files = {"certificate-authority", "client-certificate", "client-key", "tokenFile"}
    return {key: directory / value if key in files and value else value for key, value in entry.items()}


def _authorization(user: Mapping[str, Any]) -> Authorization:
    if user.get("auth-provider"):
        raise ConfigError("auth-provider was removed in Kubernetes 1.26; use a credential plugin (exec)")
    if user.get("exec"):
        return Plugin(user["exec"])
    if user.get("tokenFile"):
        return TokenFile(user["tokenFile"])
    if user.get("token"):
        return Fixed(f"Bearer {user['token']}")
    if user.get("username"):
        basic = base64.b64encode(f"{user['username']}:{user.get('password', '')}".encode()).decode()
        return Fixed(f"Basic {basic}")
    return Fixed(None)


class Fixed:
    """An identity that does not change."""

    def __init__(self, header: str | None) -> None:
        self._header = header

    async def __call__(self, *, rejected: bool = False) -> str | None:
        """See `Authorization`."""
        return self._header


class TokenFile:
    """A token in a file that somebody else renews."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header = ""
        self._read_at = float("-inf")

    async def __call__(self, *, rejected: bool = False) -> str | None:
        """See `Authorization`."""
        if rejected or time.monotonic() - self._read_at > TOKEN_SECONDS:
            try:
                self._header = f"Bearer {self._path.read_text().strip()}"
            except OSError as error:
                raise ConfigError(f"cannot read {self._path}: {error.strerror}") from None
            self._read_at = time.monotonic()
        return self._header


class Plugin:
    """A credential plugin that prints a token (``client.authentication.k8s.io``), as cloud providers have them.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        if spec.get("provideClusterInfo"):
            raise ConfigError("credential plugins with provideClusterInfo are not supported")
        self._spec = spec
        self._header: str | None = None
        self._expires = float("inf")  # seconds since the epoch
        self._running = asyncio.Lock()

    async def __call__(self, *, rejected: bool = False) -> str | None:
        """See `Authorization`."""
        async with self._running:
            if rejected or self._header is None or time.time() > self._expires - TOKEN_SECONDS:
                status = await asyncio.to_thread(self._run)
                if not status.get("token"):
                    raise ConfigError(f"credential plugin {self._spec['command']} gave no token")
                expires = status.get("expirationTimestamp")
                self._expires = datetime.fromisoformat(expires).astimezone(UTC).timestamp() if expires else float("inf")
                self._header = f"Bearer {status['token']}"
            return self._header

    def _run(self) -> dict[str, Any]:
        request = {"apiVersion": self._spec["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": False}}
        environment = {entry["name"]: entry["value"] for entry in self._spec.get("env") or []}
        try:
            answer = subprocess.run(
                [self._spec["command"], *(self._spec.get("args") or [])],
                env={**os.environ, **environment, "KUBERNETES_EXEC_INFO": json.dumps(request)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                timeout=PLUGIN_SECONDS,
                check=True,
            )
            status: dict[str, Any] = json.loads(answer.stdout)["status"]
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            raise ConfigError(f"credential plugin {self._spec['command']} failed: {type(error).__name__}") from None
        return status


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority-data")
    try:
        tls = ssl.create_default_context(
            cafile=cluster.get("certificate-authority"),
            cadata=base64.b64decode(authority).decode() if authority else None,
        )
        # Python 3.13 demands an authority key identifier, which some clusters' own authorities lack
        # (kubernetes-client/python#2394).
        tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        with tempfile.TemporaryDirectory() as directory:  # OpenSSL reads certificates from files only
            certificate = _file(user, "client-certificate", Path(directory))
            key = _file(user, "client-key", Path(directory))
            if certificate:
                tls.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(f"cannot load the certificates: {type(error).__name__} {error}") from None
    return tls


def _file(user: Mapping[str, Any], name: str, directory: Path) -> Path | None:
    """Path of a file that the kubeconfig names or brings along as data."""
    if data := user.get(f"{name}-data"):
        path = directory / name
        path.touch(mode=0o600)
        path.write_bytes(base64.b64decode(data))
        return path
    found: Path | None = user.get(name)
    return found
