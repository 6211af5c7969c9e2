"""Which Kubernetes, and which namespace, a kubeconfig leads to: as ``kubectl`` takes it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kr8s._api import Api

from dask_gitops.access import Access
from dask_gitops.errors import Unreachable

PLACES = {"dev": "sandbox", "production": "analytics", "bare": ""}


@pytest.fixture(autouse=True)
def _no_kubernetes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def version(_: Any) -> None:
        pass

    monkeypatch.setattr(Api, "_check_version", version)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)


def written(path: Path, *contexts: str, current: str | None = None, user: dict[str, Any] | None = None) -> str:
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": each, "cluster": {"server": f"http://{each}.invalid"}} for each in contexts],
        "users": [{"name": "me", "user": user or {"token": "t"}}],
        "contexts": [
            {
                "name": each,
                "context": {"cluster": each, "user": "me", **({"namespace": PLACES[each]} if PLACES[each] else {})},
            }
            for each in contexts
        ],
    }
    path.write_text(yaml.safe_dump(content | ({} if current is None else {"current-context": current})))
    return str(path)


async def reached(**how: Any) -> tuple[str, str]:
    access = await Access.open(**how)
    return access.server, access.namespace


@pytest.mark.parametrize("current", ["dev", "", None])
async def test_the_namespace_is_that_of_the_context_that_is_asked_for(tmp_path: Path, current: str | None) -> None:
    """It was that of the current one: ``suspend etl --context production`` went to another namespace."""
    file = written(tmp_path / "config", *PLACES, current=current)
    for context, namespace in (("production", "analytics"), ("bare", "default"), ("dev", "sandbox")):
        found = await reached(context=context, kubeconfig=file)
        assert found == (f"http://{context}.invalid", namespace)
    assert (await reached(namespace="mine", context="production", kubeconfig=file))[1] == "mine"


async def test_the_current_context_is_that_of_the_first_file_that_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a namespace given, the first context of all was taken: another Kubernetes than ``kubectl``'s."""
    files = [written(tmp_path / "a", "dev"), str(tmp_path / "absent"), written(tmp_path / "b", "production")]
    files.append(written(tmp_path / "c", "bare", current="production"))
    monkeypatch.setenv("KUBECONFIG", ":".join(files))
    assert await reached() == ("http://production.invalid", "analytics")
    assert await reached(namespace="mine") == ("http://production.invalid", "mine")


async def test_where_no_context_is_chosen_none_is_guessed(tmp_path: Path) -> None:
    for current in ("", None):
        file = written(tmp_path / "config", "dev", "production", current=current)
        with pytest.raises(Unreachable, match=r"no context is chosen.*dev, production"):
            await reached(namespace="mine", kubeconfig=file)


@pytest.mark.parametrize("content", ["", "[]", "a: [", "{}", "contexts: 3", "current-context: [x]"])
async def test_what_is_no_kubeconfig_is_said(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(Unreachable, match="no way to Kubernetes"):
        await reached(kubeconfig=str(path))


async def test_a_file_that_is_named_and_absent_is_not_passed_over(tmp_path: Path) -> None:
    """In a Pod its own ServiceAccount was taken instead, which is of another Kubernetes perhaps."""
    with pytest.raises(Unreachable, match=r"absent.* does not exist"):
        await reached(kubeconfig=str(tmp_path / "absent"))


async def test_a_sign_in_that_fails_says_what_its_program_said(tmp_path: Path) -> None:
    """An expired login, the most usual of all: it was a RuntimeError of kr8s."""
    script = "import sys; sys.exit('the session has expired: sso login')"
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", script],
    }
    file = written(tmp_path / "config", "dev", current="dev", user={"exec": plugin})
    with pytest.raises(Unreachable, match="the session has expired: sso login"):
        await reached(kubeconfig=file)
    file = written(tmp_path / "config", "dev", current="dev", user={"exec": {**plugin, "command": "absent-plugin"}})
    with pytest.raises(Unreachable, match="absent-plugin"):
        await reached(kubeconfig=file)
    for said in ("", "{}", '{"status": {}}'):
        silent = {**plugin, "args": ["-c", f"print({said!r})"]}
        file = written(tmp_path / "config", "dev", current="dev", user={"exec": silent})
        with pytest.raises(Unreachable, match="no way to Kubernetes"):
            await reached(kubeconfig=file)


async def test_of_two_files_that_call_others_alike_the_first_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last did: another Kubernetes than ``kubectl``'s, or the same as somebody else."""
    first = written(tmp_path / "first", "dev", current="dev", user={"token": "ada"})
    last = tmp_path / "last"
    written(last, "dev", current="dev", user={"token": "bob"})
    last.write_text(last.read_text().replace("dev.invalid", "production.invalid"))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([first, str(last)]))
    access = await Access.open()
    assert (access.server, access.api.auth.token) == ("http://dev.invalid", "ada")


async def test_files_are_where_the_kubeconfig_is_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were taken from here, or from where the context is; and ``tokenFile`` from nowhere: nobody had signed in."""
    for folder in ("own", "other", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "token").write_text(f"of {folder}\n")
        (tmp_path / folder / "sign-in").write_text(f'#!/bin/sh\necho \'{{"status": {{"token": "by {folder}"}}}}\'')
        (tmp_path / folder / "sign-in").chmod(0o700)
    monkeypatch.chdir(tmp_path / "here")
    contexts = tmp_path / "other" / "config"
    written(contexts, "dev", current="dev")
    contexts.write_text(yaml.safe_dump(yaml.safe_load(contexts.read_text()) | {"users": None}))
    users = tmp_path / "own" / "config"
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["", str(contexts), str(users)]))
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./sign-in"}
    for user, token in (({"tokenFile": "token", "token": "old"}, "of own"), ({"exec": program}, "by own")):
        written(users, "dev", user=user)
        assert (await Access.open()).api.auth.token == token
    written(users, "dev", user={"client-certificate": "absent.crt", "client-key": "absent.key"})
    with pytest.raises(Unreachable, match=r"own/absent\..*, which the kubeconfig names: No such file"):
        await Access.open()


@pytest.mark.parametrize("named", [True, False])
async def test_who_signs_in_again_reads_what_is_new_by_then(tmp_path: Path, named: bool) -> None:
    """A token that somebody renews in the kubeconfig, or in the file that it names, while a client is connected."""
    renewed = tmp_path / ("token" if named else "config")

    def renew(token: str) -> None:
        (tmp_path / "token").write_text(token)
        written(
            tmp_path / "config", "dev", current="dev", user={"tokenFile": str(renewed)} if named else {"token": token}
        )

    renew("old")
    access = await Access.open(kubeconfig=str(tmp_path / "config"))
    renew("new")
    await access.api.auth.reauthenticate()
    assert access.api.auth.token == "new"


async def test_what_a_context_names_has_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "config"
    for kind in ("cluster", "user"):
        written(file, "dev", current="dev")
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {f"{kind}s": []}))
        with pytest.raises(Unreachable, match=f"context dev names {kind} .*, which is not there"):
            await reached(kubeconfig=str(file))


@pytest.mark.parametrize(
    ("server", "no_proxy", "past"),
    [
        ("https://10.96.0.1:443", "localhost, 10.0.0.0/8,.svc", True),
        ("https://10.96.0.1:443", "10.96.0.1", True),
        ("https://10.96.0.1:443", "192.168.0.0/16,nonsense/8", False),
        ("https://kubernetes.example.com", "10.0.0.0/8", False),
    ],
)
async def test_networks_without_a_proxy_are_those_that_kubectl_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, no_proxy: str, past: bool
) -> None:
    """Behind a proxy the API server was asked for by the proxy, which knows no addresses of Pods' networks."""
    file = tmp_path / "config"
    written(file, "dev", current="dev")
    file.write_text(file.read_text().replace("http://dev.invalid", server))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, no_proxy)
    access = await Access.open(kubeconfig=str(file))
    await Access.open(kubeconfig=str(file))
    await access.api._create_session()
    way = access.api._session._transport_for_url(httpx.URL(server))
    assert (type(way._pool).__name__ == "AsyncConnectionPool") is past
    assert os.environ["NO_PROXY"].count("10.96.0.1") <= 1
