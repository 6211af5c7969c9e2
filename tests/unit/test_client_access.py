"""Which Kubernetes, and which namespace, a kubeconfig leads to: as ``kubectl`` takes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

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
