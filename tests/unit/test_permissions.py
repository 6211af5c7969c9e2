"""The page of permissions says what Roles there are, what each grants, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.constructs import IMAGE, Manifest, chart, synth

from dask_constructs import DaskActivator, DaskClusterTemplate, DaskOperator, DaskTenant
from dask_constructs.rbac import GRANTED, Permission, rules

PAGE = (Path(__file__).parents[2] / "docs" / "permissions.md").read_text()


def roles(**options: Any) -> dict[str, Manifest]:
    """All that the constructs make, by name."""
    c = chart()
    DaskOperator(c, "operator", metrics_tls="tls", queues=True, **options)
    DaskActivator(c, "activator", **options)
    DaskTenant(c, "tenant", namespace="team", groups=["engineers"])
    options = {"namespace": "team", "image": IMAGE, "maximum_workers": 1, "users": ["engineers"]}
    DaskClusterTemplate(c, "template", name="name", **options)
    return {m["metadata"]["name"]: m for m in synth(c) if m["kind"] in ("Role", "ClusterRole")}


@pytest.mark.parametrize("namespaces", [None, ["team"]])
def test_every_role_is_on_the_page_with_what_it_grants(namespaces: list[str] | None) -> None:
    made = {name: role["rules"] for name, role in roles(namespaces=namespaces).items()}
    assert made == {granted.title: rules(granted.permissions) for granted in GRANTED}


@pytest.mark.parametrize("granted", GRANTED, ids=lambda granted: granted.title)
def test_each_permission_has_its_reason_and_no_wildcard(granted: Any) -> None:
    section = PAGE.partition(f"## {granted.title}\n")[2].partition("\n## ")[0]
    for permission in granted.permissions:
        assert f"{permission.verbs.replace(' ', ', ')} | {permission.reason} |" in section
        assert permission.reason
        assert "*" not in str(permission.rule)


def test_what_is_about_one_object_says_which() -> None:
    named, used = [p for granted in GRANTED for p in granted.permissions if isinstance(p, Permission) and p.names]
    assert f"| `secrets` named `{named.names[0]}` | get |" in PAGE
    assert f"| `daskclusters` of `kubernetes.dask.org` named `{used.names[0]}` | use |" in PAGE
