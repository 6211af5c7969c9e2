"""The construct of a template: what it writes and tells at synth. What its policies do is tried on an API server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.constructs import IMAGE, chart, errors, synth

from dask_constructs import DaskClusterTemplate


def written(**options: Any) -> dict[str, dict[str, Any]]:
    """Manifests by kind and name."""
    c = chart()
    DaskClusterTemplate(
        c, "t", **{"name": "small", "namespace": "team", "image": IMAGE, "maximum_workers": 4, **options}
    )
    return {f"{m['kind']}/{m['metadata']['name']}": m for m in synth(c)}


def told(**options: Any) -> list[str]:
    c = chart()
    DaskClusterTemplate(c, "t", **{"name": "small", "image": IMAGE, "maximum_workers": 4, **options})
    return errors(c)


def test_a_template_sleeps_and_has_its_policies() -> None:
    found = written(idle_timeout=60)
    name = "dask-template-team-small"
    policies = {f"ValidatingAdmissionPolicy{what}/{name}-{of}" for what in ("", "Binding") for of in ("same", "use")}
    assert set(found) == {"DaskCluster/small", *policies}
    assert found["DaskCluster/small"]["spec"]["suspend"] is True
    assert found["DaskCluster/small"]["spec"]["idleTimeout"] == 60
    binding = found[f"ValidatingAdmissionPolicyBinding/{name}-same"]["spec"]
    assert binding["paramRef"] == {"name": "small", "namespace": "team", "parameterNotFoundAction": "Deny"}
    assert binding["matchResources"]["objectSelector"]["matchLabels"] == {"dask.org/made-from": "small"}
    assert not [m for m in found.values() if m["kind"].startswith("Validating") and "namespace" in m["metadata"]]


def test_the_queue_of_a_template_has_to_be_repeated() -> None:
    """Whoever left it out had workers without quota."""
    said = {"team": "data", "argocd.argoproj.io/instance": "x"}
    found = written(queue="research", labels=said, annotations={"helm.sh/chart": "x"})
    spec = found["ValidatingAdmissionPolicy/dask-template-team-small-same"]["spec"]
    missing = [rule["expression"] for rule in spec["validations"] if "missing: " in rule["messageExpression"]]
    assert [expression.split(".filter")[0] for expression in missing] == ["['kueue.x-k8s.io/queue-name', 'team']"]


def test_its_users_have_the_right_to_use_it_and_no_other_template() -> None:
    found = written(users=["researchers", {"name": "ada", "namespace": "hub"}])
    rules = found["Role/dask-template-small"]["rules"]
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in rules] == [
        (["use"], ["small"]),
        (["create", "delete"], None),
    ]
    assert found["RoleBinding/dask-template-small"]["subjects"] == [
        {"kind": "Group", "name": "researchers", "apiGroup": "rbac.authorization.k8s.io"},
        {"kind": "ServiceAccount", "name": "ada", "namespace": "hub"},
    ]


def test_the_program_of_the_page_writes_what_the_page_says() -> None:
    page = (Path(__file__).parents[2] / "docs/templates.md").read_text()
    (code,) = re.findall(r"<!-- construct -->\n```python\n(.*?)```", page, re.DOTALL)
    c = chart()
    exec(code, {"chart": c})
    for manifest in synth(c):
        assert manifest["kind"].removesuffix("Binding") in page
        assert f"`{manifest['metadata']['name']}`" in page


def test_what_is_wrong_is_told_at_synth() -> None:
    (error,) = told()
    assert error.startswith("[test/t] namespace: is needed")
    (error,) = told(namespace="team", name="a" * 48)
    assert error.startswith("[test/t] name: must have at most 47 characters")
    assert f"DaskCluster/{'a' * 47}" in written(name="a" * 47)
    for wrong, where in (
        ({"idle_timeout": -1}, "[test/t/cluster] idle_timeout: "),
        ({"maximum_workers": -1}, "[test/t] maximum_workers: "),
        ({"users": [3]}, "[test/t] users[0]: "),
    ):
        (error,) = told(namespace="team", **wrong)
        assert error.startswith(where)
    for unknown in ("sespend", "suspend"):
        with pytest.raises(TypeError, match=unknown):
            told(namespace="team", **{unknown: True})
