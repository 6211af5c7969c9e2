"""The page of all permissions, ``docs/permissions.md``, from the tables that Roles are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dask_constructs.rbac import GRANTED, Granted


def permissions(generated: str) -> str:
    """The page as Markdown.

    Args:
        generated: how a generated page begins to say so.
    """
    lines = [
        "# Permissions",
        "",
        f"{generated}constructs/dask_constructs/rbac.py by `dask-synth`. Do not edit. -->",
        "",
        "Each Role and ClusterRole that the constructs make, what it grants, and why. The operator is granted what it "
        "uses: `tests/e2e/test_permissions.py` compares both, from the audit log of a real API server.",
        "",
    ]
    for granted in GRANTED:
        lines += _role(granted)
    return "\n".join(lines)


def _role(granted: Granted) -> Iterator[str]:
    yield from (f"## {granted.title}", "", granted.to, "", "| what | verbs | why |", "| --- | --- | --- |")
    for permission in granted.permissions:
        yield f"| {_what(permission.rule)} | {permission.verbs.replace(' ', ', ')} | {permission.reason} |"
    yield ""


def _what(rule: dict[str, Any]) -> str:
    names = [f"`{name}`" for name in rule.get("nonResourceURLs") or rule["resources"]]
    group = next((f" of `{group}`" for group in rule.get("apiGroups", ()) if group), "")
    objects = "".join(f" named `{name}`" for name in rule.get("resourceNames", ()))
    return f"{', '.join(names)}{group}{objects}"
